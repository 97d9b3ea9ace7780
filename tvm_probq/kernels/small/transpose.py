"""Quantize a float32 ``[N, C, H, W]`` network input to codes ``[N, H, W, C]`` in one pass."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    let,
    load,
    loop,
    scratch,
    splat,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, fma
from tvm_probq.kernels.small.parameters import Parameters, to_codes

FEW = 8
SHUFFLED = 4


def quantize_nchw_kernel(
    shape: tuple[Any, ...], ranges: int, dtype: str = "uint8"
) -> tirx.PrimFunc:  # fmt: skip
    """Kernel (x float32, qparams, codes) of `quantize` with the layout ``"NCHW"``.

    Parameters
    ----------
    shape : tuple
        N, C, H and W of the input.
    ranges : int
        1 or C.
    dtype : str
        Of the codes.
    """
    batch, channels, height, width = shape
    pixels = height * width

    def body(n: Any, x: Any, qparams: Any, out: Any) -> None:
        source = _Source(view(x, batch, channels, pixels), Parameters(qparams, n), n, dtype)
        if channels <= SHUFFLED:
            out = view(out, batch, pixels * channels)
            wide_blocks(pixels, lambda i, lanes: _interleave(source, out, channels, i, lanes))
        else:
            out = view(out, batch, pixels, channels)
            wide_blocks(pixels, lambda i, lanes: _by_tiles(source, out, channels, i, lanes))

    arguments = [Argument("x", shape), qparams_argument("qparams", batch, ranges)]
    output = Argument("out", (batch, height, width, channels), dtype)
    return build_kernel("quantize_nchw", [*arguments, output], batch, body)


@dataclass(frozen=True)
class _Source:
    """One sample of the input, ``[N, C, pixels]``."""

    x: Any
    qparams: Parameters
    sample: Any
    dtype: str

    def codes(self, channel: Any, pixel: Any, lanes: int) -> Any:
        """Codes of `lanes` neighbouring pixels of one channel."""
        p = self.qparams
        step = let(const(1.0) / p.scale(channel, 1))
        step, zero, upper = (
            splat(v, lanes) for v in (step, p.zero(channel, 1), p.qmax(channel, 1))
        )
        value = fma(load(self.x, self.sample, channel, pixel, lanes=lanes), step, zero)
        return to_codes(value, const(0.0, lanes), upper, self.dtype)


def _interleave(source: _Source, out: Any, channels: int, pixel: Any, lanes: int) -> None:
    """A few channels: mix their vectors in registers."""
    planes = [let(source.codes(c, pixel, lanes)) for c in range(channels)]
    order = [c * lanes + i for i in range(lanes) for c in range(channels)]
    mixed = planes[0] if channels == 1 else tirx.Shuffle(planes, order)
    store(out, mixed, source.sample, pixel * channels, lanes=lanes * channels)


def _by_tiles(source: _Source, out: Any, channels: int, pixel: Any, lanes: int) -> None:
    """Many channels: a small tile of codes, then one by one."""
    tile = scratch(source.dtype, FEW, lanes)

    def some_channels(first: Any, count: int) -> None:
        with loop(count) as c:
            store(tile, source.codes(first + c, pixel, lanes), c, 0, lanes=lanes)
        with loop(lanes) as i, loop(count) as c:
            store(out, load(tile, c, i), source.sample, pixel + i, first + c)

    wide_blocks(channels, some_channels, FEW)
