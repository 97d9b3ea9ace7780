"""Average pooling on codes, of windows and of whole images."""

from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument, rows_view
from tvm_probq.kernels.small.emit import (
    Argument,
    Register,
    build_kernel,
    let,
    load,
    loop,
    splat,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, convert, fma, rint_int32
from tvm_probq.kernels.small.parameters import Parameters, to_codes


def channel_mean(x: Any, p: Parameters, n: Any, channel: Any, lanes: int) -> Any:
    """Codes ``[N, positions, C]`` averaged over positions, less the zero-point."""
    positions = int(x.shape[1])
    total = Register(lanes, "int32")
    with loop(positions) as i:
        total.set(total.get() + convert(load(x, n, i, channel, lanes=lanes), "int32"))
    mean = convert(total.get(), "float32") / const(positions, lanes)
    return let(mean - p.zero(channel, lanes))


def global_avg_pool_kernel(shape: tuple[Any, ...], ranges: tuple[int, int]) -> tirx.PrimFunc:
    """Kernel (x uint8 ``[N, H, W, C]``, x_qparams, y_qparams, out uint8 ``[N, C]``).

    Parameters
    ----------
    shape : tuple
        Shape of x.
    ranges : tuple of int
        Ranges of x and of the result, each 1 or C.
    """
    batch, channels = shape[0], shape[3]

    def body(n: Any, x: Any, x_qparams: Any, y_qparams: Any, out: Any) -> None:
        x = rows_view(x, True)
        p, y = Parameters(x_qparams, n), Parameters(y_qparams, n)

        def block(c: Any, lanes: int) -> None:
            mean = channel_mean(x, p, n, c, lanes)
            value = fma(mean, p.scale(c, lanes) / y.scale(c, lanes), y.zero(c, lanes))
            codes = to_codes(value, const(0.0, lanes), y.qmax(c, lanes))
            store(out, codes, n, c, lanes=lanes)

        wide_blocks(channels, block)

    arguments = [Argument("x", shape, "uint8")]
    arguments += [
        qparams_argument(f"{letter}_qparams", batch, count)
        for letter, count in zip("xy", ranges, strict=True)
    ]
    output = Argument("out", (batch, channels), "uint8")
    return build_kernel("global_avg_pool", [*arguments, output], batch, body)


def avg_pool_kernel(shape: tuple[Any, ...], size: tuple[int, int]) -> tirx.PrimFunc:
    """Kernel (q uint8, rows, columns, out uint8) of `avg_pool`.

    Parameters
    ----------
    shape : tuple
        Shape of q, ``[N, H, W, C]``.
    size : tuple of int
        Height and width of the result.
    """
    batch, channels = shape[0], int(shape[3])

    def body(n: Any, q: Any, rows: Any, columns: Any, out: Any) -> None:
        with loop(size[0]) as i:
            top, bottom = (let(load(rows, k, i)) for k in range(2))
            with loop(size[1]) as j:
                left, right = (let(load(columns, k, j)) for k in range(2))
                count = let(convert((bottom - top) * (right - left), "float32"))

                def block(c: Any, lanes: int) -> None:
                    total = Register(lanes, "int32")
                    with loop(bottom - top) as k, loop(right - left) as m:
                        code = load(q, n, top + k, left + m, c, lanes=lanes)
                        total.set(total.get() + convert(code, "int32"))
                    mean = convert(total.get(), "float32") / splat(count, lanes)
                    store(out, convert(rint_int32(mean), "uint8"), n, i, j, c, lanes=lanes)

                wide_blocks(channels, block)

    arguments = [Argument("q", shape, "uint8")]
    for name, count in zip(("rows", "columns"), size, strict=True):
        arguments.append(Argument(name, (2, count), "int32"))
    output = Argument("out", (batch, *size, channels), "uint8")
    return build_kernel("avg_pool", [*arguments, output], batch, body)
