"""Resizing on codes."""

from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    let,
    load,
    loop,
    splat,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert, fma, rint_int32


def resize_kernel(shape: tuple[Any, ...], size: tuple[int, int]) -> tirx.PrimFunc:
    """Kernel (q uint8, rows, row_weights, columns, column_weights, out uint8) of `resize`.

    Parameters
    ----------
    shape : tuple
        Shape of q, ``[N, H, W, C]``.
    size : tuple of int
        Height and width of the result.
    """
    batch, channels = shape[0], int(shape[3])

    def body(
        n: Any, q: Any, rows: Any, row_weights: Any, columns: Any, column_weights: Any, out: Any
    ) -> None:
        with loop(size[0]) as i:
            ends, down = _tap(rows, row_weights, i)
            with loop(size[1]) as j:
                sides, right = _tap(columns, column_weights, j)

                def block(c: Any, lanes: int) -> None:
                    corners = [[_code(q, (n, row, s, c), lanes) for s in sides] for row in ends]
                    top, bottom = (_between(a, b, right) for a, b in corners)
                    value = rint_int32(_between(top, bottom, down))
                    store(out, convert(value, "uint8"), n, i, j, c, lanes=lanes)

                wide_blocks(channels, block)

    arguments = [Argument("q", shape, "uint8")]
    for name, count in zip(("row", "column"), size, strict=True):
        arguments.append(Argument(f"{name}s", (2, count), "int32"))
        arguments.append(Argument(f"{name}_weights", (count,)))
    output = Argument("out", (batch, *size, channels), "uint8")
    return build_kernel("resize", [*arguments, output], batch, body)


def _tap(index: Any, weights: Any, at: Any) -> tuple[list[Any], Any]:
    """Both old rows (or columns) of a new one, and its way between them."""
    return [let(load(index, k, at)) for k in range(2)], let(load(weights, at))


def _code(q: Any, index: tuple[Any, ...], lanes: int) -> Any:
    return let(convert(load(q, *index, lanes=lanes), "float32"))


def _between(a: Any, b: Any, weight: Any) -> Any:
    return let(fma(b - a, splat(weight, int(a.ty.dtype.lanes)), a))
