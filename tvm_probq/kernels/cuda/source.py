"""The device code that generated sources call."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import tvm_ffi

from tvm_probq.kernels.cuda.smooth import smooth_source

CALLBACK = "tvm_callback_cuda_postproc"
HEADERS = "#ifndef __CUDACC_RTC__\n#include <cstdint>\n#endif"
BEFORE = ("instructions", "steps")
BEHIND = (
    "epilogue",
    "layer",
    "dense",
    "vector",
    "depthwise",
    "sums",
    "predictions",
    "images",
    "timing",
)


@cache
def device_source() -> str:
    """All device code of the package, in the order in which it needs each other."""
    folder = resources.files(__package__) / "device"
    texts = {n: (folder / f"{n}.cuh").read_text(encoding="utf-8") for n in (*BEFORE, *BEHIND)}
    return "\n".join([*(texts[n] for n in BEFORE), smooth_source(), *(texts[n] for n in BEHIND)])


def whole_source(code: str) -> str:
    """Generated code, behind the device code if it calls it."""
    needs = "probq::" in code and "namespace probq" not in code
    return f"{HEADERS}\n{device_source()}\n{code}" if needs else code


def register() -> None:
    """Have TVM's code generator add the device code; what was registered before runs first."""
    before = tvm_ffi.get_global_func(CALLBACK, allow_missing=True)

    def finish(code: str, target: Any) -> str:
        return whole_source(code if before is None else str(before(code, target)))

    tvm_ffi.register_global_func(CALLBACK, finish, override=True)
