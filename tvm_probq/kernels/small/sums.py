"""Sums of codes and of squared codes over positions: what `moments` needs of a layer's input."""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.emit import (
    VECTOR,
    WIDE,
    Argument,
    Register,
    build_kernel,
    let,
    load,
    loop,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert

LIMIT = 128  # lanes of a running vector: more do not fit the registers
Shape = tuple[Any, ...]


def sampled_positions(shape: Shape, stride: int) -> int:
    """Positions that `sums` reads of a tensor ``[N, H, W, C]`` or ``[N, C]``."""
    return 1 if len(shape) == 2 else -(-shape[1] // stride) * shape[2]


def sums_kernel(shape: Shape, stride: int) -> tirx.PrimFunc:
    """Kernel (q uint8, out int32 ``[N, 2, C]``) of `sums`."""
    batch, channels = shape[0], shape[-1]

    def body(n: Any, q: Any, out: Any) -> None:
        emit_sums(q, stride, n, out)

    arguments = [Argument("q", shape, "uint8"), Argument("out", (batch, 2, channels), "int32")]
    return build_kernel("sums", arguments, batch, body)


def emit_sums(q: Any, stride: int, n: Any, out: Any, out_sample: Any = None) -> None:
    """Write the sums of sample `n` to sample `out_sample` (the same by default) of `out`."""
    at = n if out_sample is None else out_sample
    channels = int(q.shape[-1])
    run = _Run.of(q, stride)
    together = _positions_together(channels)
    if together > 1 and run.length >= together:
        _emit_narrow(run, n, out, at, together)
        return

    def block(c: Any, lanes: int) -> None:
        pair = _Pair(lanes)
        with loop(run.count) as i, loop(run.length) as j:
            pair.see(load(run.codes, n, i * run.step, j * channels + c, lanes=lanes), lanes)
        pair.write(out, at, c)

    wide_blocks(channels, block)


@dataclass(frozen=True)
class _Run:
    """The tensor as `count` runs of `length` positions, every `step`-th one of which is read."""

    codes: Any
    count: int
    length: int
    step: int

    @staticmethod
    def of(q: Any, stride: int) -> "_Run":
        batch, channels = q.shape[0], int(q.shape[-1])
        if len(q.shape) == 2:
            return _Run(view(q, batch, 1, channels), 1, 1, 1)
        height, width = int(q.shape[1]), int(q.shape[2])
        if stride == 1:
            return _Run(view(q, batch, 1, height * width * channels), 1, height * width, 1)
        rows = view(q, batch, height, width * channels)
        return _Run(rows, -(-height // stride), width, stride)


class _Pair:
    """Running sums of codes and of squared codes."""

    def __init__(self, lanes: int) -> None:
        self._total, self._squares = Register(lanes, "int32"), Register(lanes, "int32")

    def see(self, codes: Any, lanes: int) -> None:
        """Take in a vector of at most as many lanes."""
        code = let(convert(codes, "int32"))
        self._total.set(self._total.get(lanes) + code, lanes)
        self._squares.set(self._squares.get(lanes) + code * code, lanes)

    def fold(self, channels: int) -> None:
        """Add all positions of `channels` lanes each to the first."""
        for register in (self._total, self._squares):
            parts = [register.get(channels, i) for i in range(0, register.lanes, channels)]
            register.set(reduce(add, parts), channels)

    def write(self, out: Any, at: Any, channel: Any, lanes: int = 0) -> None:
        """Store both, from `channel` on."""
        for row, register in enumerate((self._total, self._squares)):
            store(out, register.get(lanes), at, row, channel, lanes=lanes or register.lanes)


def _positions_together(channels: int) -> int:
    """How many positions of few channels fill whole vectors, 1 if none do."""
    if channels >= WIDE:
        return 1
    fitting = [m for m in range(1, LIMIT // channels + 1) if m * channels % VECTOR == 0]
    return max((m for m in fitting if m * channels <= WIDE), default=min(fitting, default=1))


def _emit_narrow(run: _Run, n: Any, out: Any, at: Any, together: int) -> None:
    """Few channels: several positions in one vector, or each addition waits for the last."""
    channels = int(out.shape[2])
    lanes = together * channels
    full, rest = divmod(run.length, together)
    pair = _Pair(lanes)
    with loop(run.count) as i:
        with loop(full) as j:
            pair.see(load(run.codes, n, i * run.step, j * lanes, lanes=lanes), lanes)
        with loop(rest) as j:
            start = full * lanes + j * channels
            pair.see(load(run.codes, n, i * run.step, start, lanes=channels), channels)
    pair.fold(channels)
    pair.write(out, at, 0, channels)
