"""``tvm-probq tune`` for CUDA devices: a batch out, results in, and the next compile uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_gpu import device

from tvm_probq.build.artefact import load_artefact
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.runtime.runner import Runner
from tvm_probq.tuning.batch import build, measure
from tvm_probq.tuning.database import read_database

Run = Callable[..., Any]
TARGET = ("--target", "cuda-sm80")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The emulated device, without nvcc, and few rounds."""
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", lambda: "")
    monkeypatch.setattr(build, "find_nvcc", lambda: "")
    for name in ("ROUNDS", "CONFIRMING_ROUNDS", "WARM_UP_ROUNDS", "CALLS"):
        monkeypatch.setattr(measure, name, 1)
    return device()


def outputs(path: Path, x: Any) -> Any:
    with Runner(load_artefact(path)) as runner:
        return runner.run(x)


def candidates(folder: Path) -> set[str]:
    """What a batch holds besides the default tiles."""
    layers = json.loads((folder / measure.BATCH).read_text())["layers"]
    return {json.dumps([one["key"], t["tile"]]) for one in layers for t in one["tiles"][1:]}


def halved(path: Path) -> None:
    """Results as if the last candidate of each layer took half of the default's time."""
    data = json.loads(path.read_text())
    for found in data["layers"].values():
        found["again"] = {
            "tile": found["tiles"][-1]["tile"], "times_ns": [500], "default_ns": [1000],
        }  # fmt: skip
    path.write_text(json.dumps(data))


def test_from_the_batch_to_the_artefact(
    emulated: Any, run: Run, record_path: Path, tmp_path: Path
) -> None:
    batch, results, database = (tmp_path / n for n in ("batch", "results.json", "db.json"))
    given = ("--calibration", record_path, *TARGET)
    export = ("tune", MODEL_PATH, *given, "--database", database, "--candidates", "2")
    done = run(*export, "--export", batch)
    assert done.status == 0, done.error
    assert f"python {batch}/measure.py" in done.out
    assert len(done.json["layers"]) == 6
    assert measure.main(["--folder", str(batch), "-o", str(results)]) == 0
    halved(results)
    done = run("tune", *TARGET, "--import", results, "--database", database)
    assert done.status == 0, done.error
    assert {row["ratio"] for row in done.json["layers"]} == {0.5}
    assert "(50.0 % less)" in done.out
    entries = read_database(database, "cuda-sm80").entries
    assert all(entry.tile is not None for entry in entries.values())

    compiled = tmp_path / "tuned.probq", tmp_path / "default.probq"
    for path, tiles in zip(compiled, (database, "none"), strict=True):
        done = run("compile", MODEL_PATH, *given, "--database", tiles, "-o", path)
        assert done.status == 0, done.error
    tuned, plain = (load_artefact(path).manifest for path in compiled)
    used = [layer.tile for layer in tuned.layers if layer.tile]
    assert len(used) >= len(entries)
    assert not any(layer.tile for layer in plain.layers)
    x = load_split()[0][:3].astype(np.float32)
    for found, wanted in zip(*(outputs(path, x) for path in compiled), strict=True):
        np.testing.assert_array_equal(found, wanted)

    done = run(*export, "--export", tmp_path / "more")  # a batch of other candidates
    assert done.status == 0, done.error
    first, second = candidates(batch), candidates(tmp_path / "more")
    assert second
    assert not first & second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TARGET, "tuned in batches.*--export FOLDER"),
        (("--target", "x86-64", "--export", "b"), "for CUDA devices, not for x86-64"),
        (("--target", "x86-64", "--import", "r"), "for CUDA devices, not for x86-64"),
        ((*TARGET, "--export", "b", "--import", "r"), "give one of the two"),
        ((*TARGET, "--import", "missing.json"), "missing.json: the results.*cannot be read"),
    ],
)
def test_wrong_options_are_explained(
    options: Any, message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("tune", MODEL_PATH, *options)
    assert done.status == 2

    assert re.search(message, done.error), done.error
    assert not list(tmp_path.iterdir())
