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
from gpu import meter, peak

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.simulator.interpreter import Simulator
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
    monkeypatch.setattr(meter, "find_nvcc", lambda: "")
    for module, name, value in (
        (benchmark, "ROUNDS", 2), (benchmark, "WARM_UP", 1), (meter, "ROUNDS", 1),
        (meter, "WARM_UP", 0), (measure, "CALLS", 1), (peak, "TURNS", 1), (peak, "BLOCKS", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_modes_are_compared_and_timed_beside_the_peak(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output, before = tmp_path / "r.json", device().launches
    given = ["--target", "cuda-sm80", "--batches", "1,2", "--layers", "--json", str(output)]
    monkeypatch.setattr(sys, "argv", ["cuda.py", str(MODEL_PATH), *given])
    assert benchmark.main() == 0
    found = json.loads(output.read_text())
    assert found["peak_tmacs"] > 0
    assert [(n["batch"], list(n["ms"])) for n in found["networks"]] == [
        (1, ["static", "predicted"]), (2, ["static", "predicted"]),
    ]  # fmt: skip
    assert found["networks"][1]["macs"] == 2 * found["networks"][0]["macs"] > 0
    for network in found["networks"]:
        assert network["tensor_share"] > 0
        assert {row[3] for row in network["layers"]} == {"mma.sync", "dp4a", "none"}
        assert sum(int(row[1]) for row in network["layers"] if row[0] == "all") == 6
    assert device().launches > before
    printed = capsys.readouterr().out
    assert "peak of mma.sync, u8 times s8" in printed
    assert printed.count("layers on tensor cores") == 2


@pytest.mark.usefixtures("quick")
def test_a_simulator_that_differs_ends_it(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: Any) -> Any:
        right = Simulator(module)
        return lambda x: [a + 1 for a in benchmark._arrays(right(x))]

    monkeypatch.setattr(benchmark, "Simulator", wrong)
    given = ["--target", "cuda-sm80", "--batches", "1"]
    monkeypatch.setattr(sys, "argv", ["cuda.py", str(MODEL_PATH), *given])
    with pytest.raises(SystemExit, match="the device and the simulator differ"):
        benchmark.main()


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
