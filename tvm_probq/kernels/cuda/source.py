"""The device code that generated sources call."""

from __future__ import annotations

from functools import cache
from importlib import resources

from tvm_probq.kernels.cuda.smooth import smooth_source

BEFORE = ("instructions", "steps")
BEHIND = ("epilogue", "layer", "dense", "vector", "depthwise", "sums")


@cache
def device_source() -> str:
    """All device code of the package, in the order in which it needs each other."""
    folder = resources.files(__package__) / "device"
    texts = {n: (folder / f"{n}.cuh").read_text(encoding="utf-8") for n in (*BEFORE, *BEHIND)}
    return "\n".join([*(texts[n] for n in BEFORE), smooth_source(), *(texts[n] for n in BEHIND)])


def whole_source(code: str) -> str:
    """Generated code with the device code that it calls before it."""
    return code if "namespace probq" in code else f"{_includes(code)}\n{device_source()}\n{code}"


def _includes(code: str) -> str:
    """What device code needs of what generated code includes below."""
    return "#ifndef __CUDACC_RTC__\n#include <cstdint>\n#endif"
