"""Sums over receptive fields: what `iid` needs of a layer's input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    VECTOR,
    Argument,
    Register,
    build_kernel,
    exact_blocks,
    let,
    load,
    loop,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert
from tvm_probq.kernels.small.halves import half_of
from tvm_probq.kernels.small.parameters import Parameters

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The receptive fields of a convolution, and which of them are sampled.

    Attributes
    ----------
    kernel, strides, dilation : pair of int
        Height and width.
    pads : tuple of int
        Top, left, bottom, right.
    groups : int
        Channel groups.
    gamma : int
        Every `gamma`-th row and column of output positions is read.
    """

    kernel: Pair
    strides: Pair
    pads: tuple[int, int, int, int]
    dilation: Pair
    groups: int
    gamma: int

    def samples(self, axis: int, extent: int) -> int:
        """Output positions read along axis 0 (rows) or 1 (columns) of an input of `extent`."""
        padded = extent + self.pads[axis] + self.pads[axis + 2]
        starts = padded - (self.kernel[axis] - 1) * self.dilation[axis]
        return -(-max(starts, 0) // (self.strides[axis] * self.gamma))

    def source(self, axis: int, sample: Any, tap: Any) -> Any:
        """Input row or column under a tap; outside of the input it is padding."""
        start = sample * (self.strides[axis] * self.gamma)
        return start + tap * self.dilation[axis] - self.pads[axis]


def patch_sums_kernel(
    shape: tuple[Any, ...], ranges: int, window: Window, packed: bool = False
) -> tirx.PrimFunc:
    """Kernel (q uint8 of `shape`, qparams, out float32 ``[N, 3, groups]``).

    The shape is ``[N, H, W, C]``, or ``[N, H, W, C / 2]`` of a `packed` tensor, of which no group
    may be in both halves unless it is the only one.
    """
    batch, stored = shape[0], shape[3]
    channels = stored * 2 if packed else stored

    def body(n: Any, q: Any, qparams: Any, out: Any) -> None:
        fields = _Fields(q, Parameters(qparams, n), n, window, packed)
        if window.groups == channels:
            for first in range(0, channels, stored):

                def block(c: Any, lanes: int, first: int = first) -> None:
                    _emit_channels(fields, out, c + first, lanes, first // stored)

                wide_blocks(stored, block, VECTOR)
            return
        with loop(window.groups) as group:
            _emit_group(fields, out, group, channels // window.groups)

    arguments = [Argument("q", shape, "uint8"), qparams_argument("qparams", batch, ranges)]
    output = Argument("out", (batch, 3, window.groups))
    return build_kernel("patch_sums", [*arguments, output], batch, body)


@dataclass(frozen=True)
class _Fields:
    """The sampled receptive fields of one sample."""

    q: Any
    qparams: Parameters
    sample: Any
    window: Window
    packed: bool = False

    @contextmanager
    def positions(self) -> Iterator[tuple[Any, Any]]:
        """Loop over sampled output positions."""
        height, width = (int(extent) for extent in self.q.shape[1:3])
        w = self.window
        with loop(w.samples(0, height)) as i, loop(w.samples(1, width)) as j:
            yield i, j

    def taps(self, position: tuple[Any, Any], body: Callable[[Any, Any], None]) -> None:
        """Run ``body(row, column)`` for each tap that is not padding."""
        with loop(self.window.kernel[0]) as ky, loop(self.window.kernel[1]) as kx:
            row = self.window.source(0, position[0], ky)
            column = self.window.source(1, position[1], kx)
            inside = [row >= 0, row < self.q.shape[1], column >= 0, column < self.q.shape[2]]
            with ir.If(tirx.all(*inside)), ir.Then():
                body(row, column)

    def centred(self, row: Any, column: Any, channel: Any, lanes: int, half: Any = 0) -> Any:
        """Codes of `lanes` channels, in one half of a packed tensor, less the zero-point, int32."""
        zero = convert(self.qparams.zero(channel, lanes), "int32")
        place = channel - half * self.q.shape[3] if self.packed else channel
        code = load(self.q, self.sample, row, column, place, lanes=lanes)
        code = half_of(code, half) if self.packed else code
        return let(convert(code, "int32") - zero)


class _Totals:
    """Running int64 totals of S1, S2 and S1 squared."""

    def __init__(self, lanes: int) -> None:
        self._rows = [Register(lanes, "int64") for _ in range(3)]

    def add(self, s1: Any, s2: Any) -> None:
        """Take in one position."""
        s1 = let(s1)
        for register, value in zip(self._rows, (s1, s2, s1 * s1), strict=True):
            register.set(register.get() + value)

    def write(self, out: Any, n: Any, channel: Any, lanes: int) -> None:
        """Store all three as float32."""
        for row, register in enumerate(self._rows):
            store(out, convert(register.get(), "float32"), n, row, channel, lanes=lanes)


def _emit_channels(fields: _Fields, out: Any, c: Any, lanes: int, half: int) -> None:
    """A depthwise layer: every channel is a group."""
    totals = _Totals(lanes)
    with fields.positions() as position:
        s1, s2 = Register(lanes, "int32"), Register(lanes, "int32")

        def tap(row: Any, column: Any) -> None:
            x = fields.centred(row, column, c, lanes, half)
            s1.set(s1.get() + x)
            s2.set(s2.get() + x * x)

        fields.taps(position, tap)
        totals.add(convert(s1.get(), "int64"), convert(s2.get(), "int64"))
    totals.write(out, fields.sample, c, lanes)


def _emit_group(fields: _Fields, out: Any, group: Any, size: int) -> None:
    """A group of several channels: vectors along them, added up at each position."""
    totals = _Totals(1)
    with fields.positions() as position:
        s1, s2 = Register(VECTOR, "int32"), Register(VECTOR, "int32")

        def tap(row: Any, column: Any) -> None:
            for first, half, length in _parts(fields, group, size):

                def block(c: Any, lanes: int, first: Any = first, half: Any = half) -> None:
                    x = fields.centred(row, column, first + c, lanes, half)
                    s1.set(s1.get(lanes) + x, lanes)
                    s2.set(s2.get(lanes) + x * x, lanes)

                exact_blocks(length, block)

        fields.taps(position, tap)
        totals.add(_lanes_together(s1), _lanes_together(s2))
    totals.write(out, fields.sample, group, 1)


def _parts(fields: _Fields, group: Any, size: int) -> list[tuple[Any, Any, int]]:
    """Runs of a group's channels that are in the same half: the first, which half, how many."""
    if fields.packed and fields.window.groups == 1:
        return [(0, 0, size // 2), (size // 2, 1, size // 2)]
    return [(group * size, group // max(fields.window.groups // 2, 1), size)]


def _lanes_together(register: Register) -> Any:
    total = Register(1, "int64")
    with loop(register.lanes) as lane:
        total.set(total.get() + convert(register.get(1, lane), "int64"))
    return total.get()
