"""Small kernels for CUDA: device code for the long ones, those of CPUs by threads for the rest."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tvm import tirx
from tvm.target import Target

from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.cuda.threads import to_threads
from tvm_probq.kernels.cuda.tiles import WARP
from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.kernels.small.specs import dtype_of, shapes_of, sums_strides
from tvm_probq.kernels.storage import bits_of_dtype
from tvm_probq.ops.checks import reads_packed

SUM_WARPS, RANGE_THREADS, IMAGE_THREADS = 8, 512, 128
ORDERED = ("pad",)  # written with the padding first, then with what it surrounds


def on_cuda() -> bool:
    """Whether kernels are made for a CUDA device: the target in force."""
    target = Target.current(allow_none=True)
    return target is not None and is_cuda(target)


def cuda_kernel(name: str, call: Any, make: Callable[[Any], tirx.PrimFunc]) -> tirx.PrimFunc:
    """The kernel of an operator.

    Parameters
    ----------
    name : str
        Of the operator, without prefix.
    call : Call
        Its call.
    make : callable
        What makes a CPU's kernel of it.

    Raises
    ------
    KernelError
        If it needs more memory than a block has.
    """
    if name == "sums":
        return _sums(call)
    if name == "observe":
        return _observe(call)
    if name == "quantize" and call.attrs["layout"] == "NCHW":
        return _quantize_planes(call)
    return to_threads(make(call), ordered=name in ORDERED)


def _sums(call: Any) -> tirx.PrimFunc:
    shape, out = shapes_of(call.args[0], call)
    batch, channels = int(shape[0]), int(out[-1])
    height, width = (1, 1) if len(shape) == 2 else map(int, shape[1:3])
    name = template(
        "sums_of_codes", height, width, channels, *sums_strides(call), SUM_WARPS, reads_packed(call)
    )
    arguments = [Argument("q", shape, "uint8"), Argument("out", (batch, 2, channels), "int32")]
    grid = (-(-channels // WARP), 1, batch)
    return launch_kernel("sums", arguments, name, ("q", "out"), grid, SUM_WARPS * WARP)


def _observe(call: Any) -> tirx.PrimFunc:
    (shape,) = shapes_of(call.args[0])
    batch = int(shape[0])
    name = template("observe", prod(shape[1:]), int(call.attrs["qmax"]), RANGE_THREADS)
    arguments = [Argument("x", shape), Argument("out", (batch, 3, 1))]
    return launch_kernel("observe", arguments, name, ("x", "out"), (1, 1, batch), RANGE_THREADS)


def _quantize_planes(call: Any) -> tirx.PrimFunc:
    shape, qparams = shapes_of(*call.args)
    batch, channels, *size = map(int, shape)
    ranges = int(qparams[2])
    dtype = dtype_of(call)
    stored = bits_of_dtype(dtype)
    name = template("quantize_planes", channels, prod(size), ranges, IMAGE_THREADS, stored)
    arguments = [Argument("x", shape), Argument("qparams", (batch, 3, ranges))]
    arguments.append(Argument("out", (batch, *size, channels), dtype))
    grid = (-(-prod(size) // IMAGE_THREADS), 1, batch)
    return launch_kernel("quantize", arguments, name, ("x", "qparams", "out"), grid, IMAGE_THREADS)
