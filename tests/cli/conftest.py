"""The bundled network, its data as files, and artefacts of it, made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import SERVER, Board, running
from emulation import require_board

from tvm_probq.cli.main import main
from tvm_probq.demo.digits import MODEL_PATH, load_split

CARD = """\
task = "classification"
model = "{model}"
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[preprocess]
mean = [0.0]
std = [1.0]
"""
SAMPLES = 40


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    out: str
    error: str
    json: dict[str, Any]


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, with ``--json``."""

    def call(*arguments: str | Path) -> Outcome:
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        status = main([*map(str, arguments), "--json", str(result)])
        said = capsys.readouterr()
        data = json.loads(result.read_text()) if result.exists() else {}
        return Outcome(status, said.out, said.err, data)

    return call


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``card.toml``, its sets, and ``inputs.npz`` of ready calibration inputs."""
    folder = tmp_path_factory.mktemp("digits")
    calibration, evaluation, labels = load_split()
    for name, x in (("calibration", calibration[:SAMPLES]), ("evaluation", evaluation)):
        # The card divides by 255, so that what is stored are the images as bytes.
        images = (x * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        y = labels if name == "evaluation" else np.zeros(len(x), np.int64)
        np.savez(folder / f"{name}.npz", x=images, y=y)
    np.savez(folder / "inputs.npz", image=calibration[:SAMPLES])
    (folder / "card.toml").write_text(CARD.format(model=MODEL_PATH), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def record_path(digits: Path) -> Path:
    """A calibration record of the network on the card's set."""
    path = digits / "record.json"
    card = str(digits / "card.toml")
    assert main(["calibrate", "--card", card, "-o", str(path), "--quiet"]) == 0
    return path


@pytest.fixture(scope="session")
def artefact_path(digits: Path, record_path: Path) -> Path:
    """The network in predicted mode, batch 2."""
    path = digits / "predicted.probq"
    options = ["--calibration", str(record_path), "--batch", "2", "--quiet"]
    assert main(["compile", str(MODEL_PATH), "-o", str(path), *options]) == 0
    return path


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board that runs on this machine."""
    with running(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture(scope="module")
def cortex_a76(board_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An emulated board."""
    require_board()
    folder = tmp_path_factory.mktemp("cortex-a76")
    with running(folder, command=[board_python, SERVER], cpu="cortex-a76") as board:
        yield board


@pytest.fixture
def place(board: Board) -> str:
    """Its address, as ``--rpc`` takes it."""
    return f"{board.address.host}:{board.address.port}"
