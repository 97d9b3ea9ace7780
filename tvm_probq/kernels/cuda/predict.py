"""Everything that is predicted from one tensor, in one launch."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.cuda.threads import SharedMemoryError, to_threads
from tvm_probq.kernels.small.emit import load, scratch, store, view, wide_blocks
from tvm_probq.kernels.small.predict import predict_kernel
from tvm_probq.kernels.small.ranges import measured_pool_kernel
from tvm_probq.kernels.small.sums import Strides

THREADS = 256  # of a block that adds up codes


def cuda_predict_kernel(
    *arguments: Any, packed: bool = False, **options: Any
) -> tirx.PrimFunc | None:
    """`predict_kernel` of a CUDA device, None where it needs more memory than a block has.

    Each block adds up the codes, which few positions stand for, and so has what all blocks need
    without waiting for them; then they share the columns of the correction.  Codes that share bytes
    are added up by a kernel of their own.
    """
    if packed:
        return None
    kernel = predict_kernel(*arguments, **options, summing=block_sums)
    try:
        return to_threads(kernel, threads=THREADS)
    except SharedMemoryError:
        return None


def cuda_measured_pool_kernel(shape: Any, ranges: int, qmax: int) -> tirx.PrimFunc:
    """`measured_pool_kernel` of a CUDA device."""
    return to_threads(measured_pool_kernel(shape, ranges, qmax))


def block_sums(
    q: Any, strides: Strides, n: Any, out: Any, _packed: bool = False
) -> tuple[Any, Any]:
    """Sums by device code of codes that have a byte each: a `Summing`."""
    channels = int(q.shape[-1])
    height, width = (1, 1) if len(q.shape) == 2 else map(int, q.shape[1:3])
    sums = scratch("int32", 1, 2, channels)
    name = template("block_sums", height, width, channels, *strides, THREADS)
    ir.evaluate(tirx.call_extern("int32", name, q.data, sums.data, tirx.Cast("int32", n)))
    if out is not None:
        here, there = (view(b, b.shape[0], 2 * channels) for b in (sums, out))

        def copy(c: Any, lanes: int) -> None:
            store(there, load(here, 0, c, lanes=lanes), n, c, lanes=lanes)

        wide_blocks(2 * channels, copy)
    return sums, 0
