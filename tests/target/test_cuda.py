"""What is said of a machine without a CUDA device, and of one with an old driver."""

from __future__ import annotations

import ctypes

import pytest
from emulated_gpu import device

from tvm_probq.target import cuda
from tvm_probq.target.cuda import device_fix, device_problem


def test_a_device_is_no_problem() -> None:
    device()
    assert device_problem() == ""


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libno_such_driver.so.1")
    problem = device_problem()
    assert "there is no CUDA driver (libno_such_driver.so.1 cannot be loaded)" in problem
    assert "NVIDIA GPU" in device_fix(problem)


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device()
    monkeypatch.setattr(cuda, "RUNTIME", "libno_such_runtime.so.13")
    problem = device_problem()
    assert problem == "the CUDA runtime is missing (libno_such_runtime.so.13 cannot be loaded)"
    assert "pip install nvidia-cuda-runtime" in device_fix(problem)


@pytest.mark.parametrize(
    ("setter", "value", "usual", "message", "fix"),
    [
        ("driver", 12040, 13000, "the driver knows CUDA 12.4, TVM needs 13.0 or newer", "580"),
        ("devices", 0, 1, "the CUDA driver finds no device", "nvidia-smi"),
    ],
)
def test_an_unfit_driver_is_named(
    setter: str, value: int, usual: int, message: str, fix: str
) -> None:
    change = getattr(device().driver, f"emulated_set_{setter}")
    change(ctypes.c_int(value))
    try:
        assert device_problem() == message
        assert fix in device_fix(message)
    finally:
        change(ctypes.c_int(usual))
