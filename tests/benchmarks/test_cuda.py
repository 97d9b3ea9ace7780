"""benchmarks/cuda.py, on the emulated device and without one."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from emulated_gpu import device

from tvm_probq.demo.digits import MODEL_PATH

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


def test_modes_are_compared_and_timed(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = device()
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", lambda: "")
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    monkeypatch.setattr(benchmark, "WARM_UP", 1)
    before = gpu.launches
    args = Namespace(batches=[1, 2], target="cuda-sm80", torch=False)
    rows = benchmark.measure(str(MODEL_PATH), args, tmp_path)
    assert [(row[1], row[2]) for row in rows] == [
        ("1", "static"), ("1", "predicted"), ("2", "static"), ("2", "predicted"),
    ]  # fmt: skip
    assert gpu.launches > before
