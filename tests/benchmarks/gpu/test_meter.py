"""What times kernels, on the emulated device, whose times mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from emulated_gpu import device
from gpu import meter, peak
from gpu.meter import Meter

from tvm_probq.kernels.cuda.nvcc import Program
from tvm_probq.tuning.batch import measure


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device().launches >= 0
    values = ((peak, "TURNS", 2), (peak, "BLOCKS", 1), (meter, "ROUNDS", 2), (meter, "WARM_UP", 1))
    for module, name, value in (*values, (measure, "CALLS", 2)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(meter, "find_nvcc", lambda: "")


def target_of(arch: str) -> tvm.target.Target:
    return tvm.target.Target({"kind": "cuda", "arch": arch}, host={"kind": "llvm"})


def test_the_peak_has_a_time() -> None:
    before = device().launches
    found = Meter(target_of("sm_80")).peak()
    assert found is not None
    assert found > 0
    assert device().launches == before + 3 * (2 + 1)  # turns of two calls and what they wait for


def test_a_device_without_tensor_cores_has_no_peak() -> None:
    before = device().launches
    assert Meter(target_of("sm_61")).peak() is None
    assert device().launches == before


def test_the_median_counts_and_warming_up_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "ROUNDS", 3)
    found, times = Meter(target_of("sm_80")), iter([90_000, 5_000, 1_000, 3_000])
    monkeypatch.setattr(found._clock, "nanoseconds", lambda *_: next(times))
    assert found.us(lambda: None) == 3.0


def test_where_nvcc_is_the_assembly_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(source: str, arch: str) -> Any:
        assert "probq::products" in source
        return Program(f".visible .entry {peak.NAME}_kernel( ret;", b"", {})

    monkeypatch.setattr(meter, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(meter, "compile_program", compiled)
    with pytest.raises(SystemExit, match="has 0 mma.sync"):
        Meter(target_of("sm_80")).peak()
