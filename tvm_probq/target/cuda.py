"""Whether this machine has a CUDA device that TVM's runtime can use."""

from __future__ import annotations

import ctypes

DRIVER, RUNTIME = "libcuda.so.1", "libcudart.so.13"
OLDEST_DRIVER = 13000  # the CUDA version that TVM's wheel was built with


def device_problem() -> str:
    """Why no kernel can run here, empty if there is a device.

    It asks the driver alone, so that TVM need not be imported.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"there is no CUDA driver ({DRIVER} cannot be loaded)"
    version, count = ctypes.c_int(), ctypes.c_int()
    try:
        answers = driver.cuDriverGetVersion(ctypes.byref(version)) == 0
    except AttributeError:  # another library of this name, such as a stub
        answers = False
    if not answers:
        return "the CUDA driver does not answer"
    if version.value < OLDEST_DRIVER:
        known, needed = _text(version.value), _text(OLDEST_DRIVER)
        return f"the driver knows CUDA {known}, TVM needs {needed} or newer"
    if (
        driver.cuInit(0) != 0
        or driver.cuDeviceGetCount(ctypes.byref(count)) != 0
        or not count.value
    ):
        return "the CUDA driver finds no device"
    try:
        ctypes.CDLL(RUNTIME)
    except OSError:
        return f"the CUDA runtime is missing ({RUNTIME} cannot be loaded)"
    return ""


def device_fix(problem: str) -> str:
    """What to do about a problem of `device_problem`."""
    if RUNTIME in problem:
        return "pip install nvidia-cuda-runtime, and put its lib folder on LD_LIBRARY_PATH"
    if "knows CUDA" in problem:
        return "install NVIDIA driver 580 or newer"
    if DRIVER in problem:
        return "run it on a machine with an NVIDIA GPU and its driver"
    return "see what nvidia-smi says"


def _text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
