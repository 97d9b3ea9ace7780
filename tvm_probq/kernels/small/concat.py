"""Join tensors of codes."""

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    load,
    loop,
    store,
    view,
    wide_blocks,
)


def concat_kernel(shapes: Sequence[tuple[Any, ...]], axis: int) -> tirx.PrimFunc:
    """Kernel (one uint8 tensor for each of `shapes`, out uint8) of `concat`.

    Parameters
    ----------
    shapes : sequence of tuple
        Shapes of the parts.
    axis : int
        Which axis they are joined along, not the batch.
    """
    batch, *before = shapes[0][:axis]
    behind = shapes[0][axis + 1 :]
    runs, lengths = prod(before), [prod(shape[axis:]) for shape in shapes]
    joined = (batch, *before, sum(shape[axis] for shape in shapes), *behind)

    def body(n: Any, *buffers: Any) -> None:
        out = view(buffers[-1], batch, runs, sum(lengths))
        for index, (buffer, length) in enumerate(zip(buffers[:-1], lengths, strict=True)):
            _copy(view(buffer, batch, runs, length), out, n, sum(lengths[:index]))

    arguments = [Argument(f"part_{i}", shape, "uint8") for i, shape in enumerate(shapes)]
    return build_kernel("concat", [*arguments, Argument("out", joined, "uint8")], batch, body)


def _copy(part: Any, out: Any, n: Any, start: int) -> None:
    """Copy each run of `part` to its place, `start` elements into a run of `out`."""

    def block(c: Any, lanes: int) -> None:
        with loop(int(part.shape[1])) as i:
            store(out, load(part, n, i, c, lanes=lanes), n, i, start + c, lanes=lanes)

    wide_blocks(int(part.shape[2]), block)
