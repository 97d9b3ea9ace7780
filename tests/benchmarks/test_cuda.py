"""benchmarks/cuda.py, on the emulated device and without one."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from emulated_gpu import device
from gpu import layers, peak

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.tuning.batch import measure
from tvm_probq.tuning.database import Database

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_of_cuda", FOLDER / "cuda.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_machine_without_a_device_is_told(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda.py", "resnet50"])
    monkeypatch.setattr(benchmark.tvm, "cuda", lambda _: Namespace(exist=False))
    monkeypatch.setattr(benchmark, "device_problem", lambda: "there is no CUDA driver")
    assert benchmark.main() == 1
    assert "nothing was measured: there is no CUDA driver" in capsys.readouterr().out


@pytest.fixture
def quick(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated device, whose times mean nothing, with few rounds and without nvcc."""
    assert device().launches >= 0
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", lambda: "")
    monkeypatch.setattr(layers, "find_nvcc", lambda: "")
    for module, name, value in (
        (benchmark, "ROUNDS", 2), (benchmark, "WARM_UP", 1), (layers, "ROUNDS", 1),
        (layers, "WARM_UP", 0), (measure, "CALLS", 1), (peak, "TURNS", 1), (peak, "BLOCKS", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("quick")
def test_modes_are_compared_and_timed(benchmark: Any, tmp_path: Path) -> None:
    gpu = device()
    before = gpu.launches
    args = Namespace(batches=[1, 2], target="cuda-sm80", torch=False, layers=False, database=None)
    rows, tables = benchmark.measure(str(MODEL_PATH), args, tmp_path)
    assert [(row[1], row[2]) for row in rows] == [
        ("1", "static"), ("1", "predicted"), ("2", "static"), ("2", "predicted"),
    ]  # fmt: skip
    assert tables == []
    assert gpu.launches > before


@pytest.mark.usefixtures("quick")
def test_layers_are_beside_the_peak_and_written(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "r.json"
    given = ["--target", "cuda-sm80", "--batches", "1", "--layers", "--json", str(output)]
    monkeypatch.setattr(sys, "argv", ["cuda.py", str(MODEL_PATH), *given])
    assert benchmark.main() == 0
    found = json.loads(output.read_text())
    assert [row[2] for row in found["networks"]] == ["static", "predicted"]
    (table,) = found["layers"]
    assert table["batch"] == 1
    assert table["share_of_peak"] > 0
    assert table["peak_tmacs"] > 0
    assert {row[3] for row in table["rows"]} == {"mma.sync", "dp4a", "none"}
    assert sum(int(row[1]) for row in table["rows"] if row[0] == "all") == 6
    assert "peak of mma.sync, u8 times s8" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_a_database_of_another_target_is_refused(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "tiles.json"
    Database("cuda-sm90").save(path)
    given = ["--target", "cuda-sm80", "--database", str(path)]
    monkeypatch.setattr(sys, "argv", ["cuda.py", str(MODEL_PATH), *given])
    assert benchmark.main() == 1
    assert "cuda-sm90" in capsys.readouterr().out
