"""Pad codes with the code of real zero."""

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument, rows_view
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    load,
    loop,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert
from tvm_probq.kernels.small.parameters import Parameters


def pad_kernel(
    shape: tuple[Any, ...], ranges: int, pad_width: Sequence[int], dtype: str = "uint8"
) -> tirx.PrimFunc:
    """Kernel (q, qparams, out) of `pad`.

    Parameters
    ----------
    shape : tuple
        Shape of q, channels last.
    ranges : int
        1 or C.
    pad_width : sequence of int
        Elements before and after, axis by axis; none on the batch.
    dtype : str
        Of the codes.
    """
    batch = shape[0]
    before, after = pad_width[::2], pad_width[1::2]
    padded = (batch, *(b + d + a for d, b, a in zip(shape[1:], before[1:], after[1:], strict=True)))

    def body(n: Any, q: Any, qparams: Any, out: Any) -> None:
        _fill(rows_view(out, ranges > 1), Parameters(qparams, n), n)
        _copy(q, out, n, shape, padded, before)

    arguments = [Argument("q", shape, dtype), qparams_argument("qparams", batch, ranges)]
    return build_kernel("pad", [*arguments, Argument("out", padded, dtype)], batch, body)


def _fill(out: Any, p: Parameters, n: Any) -> None:
    def block(c: Any, lanes: int) -> None:
        code = convert(p.zero(c, lanes), str(out.dtype))
        with loop(out.shape[1]) as i:
            store(out, code, n, i, c, lanes=lanes)

    wide_blocks(int(out.shape[2]), block)


def _copy(
    q: Any, out: Any, n: Any, shape: tuple[Any, ...], padded: tuple[Any, ...], before: Sequence[int]
) -> None:
    """Copy runs of neighbours: everything from the last padded axis on is one run."""
    last = max((i for i in range(1, len(shape)) if padded[i] != shape[i]), default=1)
    inner = prod(shape[last + 1 :])
    source = view(q, *shape[:last], shape[last] * inner)
    target = view(out, *shape[:1], *padded[1:last], padded[last] * inner)
    with ExitStack() as stack:
        index = [stack.enter_context(loop(shape[axis])) for axis in range(1, last)]
        moved = [i + b for i, b in zip(index, before[1:last], strict=True)]

        def block(c: Any, lanes: int) -> None:
            value = load(source, n, *index, c, lanes=lanes)
            store(target, value, n, *moved, before[last] * inner + c, lanes=lanes)

        wide_blocks(shape[last] * inner, block)
