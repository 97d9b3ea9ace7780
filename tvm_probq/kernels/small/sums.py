"""Sums of codes and of squared codes over positions: what `moments` needs of a layer's input."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.byte_dots import (
    LONGEST,
    POSITIONS,
    QUARTER,
    ByteSums,
    RunningSums,
    fold,
)
from tvm_probq.kernels.small.emit import (
    VECTOR,
    Argument,
    Number,
    Register,
    build_kernel,
    in_code,
    let,
    load,
    loop,
    number,
    scratch,
    shared,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert
from tvm_probq.kernels.small.halves import half_of
from tvm_probq.kernels.small.machine import wide

LIMIT = 128  # lanes of a running vector: more do not fit the registers
Shape = tuple[Any, ...]
Strides = tuple[int, int]


def sums_kernel(
    shape: Shape, strides: Strides, dot: ByteSums | None = None, packed: bool = False
) -> tirx.PrimFunc:
    """Kernel (q uint8 of `shape`, out int32 ``[N, 2, C]``) of `sums`."""
    batch, channels = shape[0], shape[-1] * 2 if packed else shape[-1]

    def body(n: Any, q: Any, out: Any) -> None:
        emit_sums(q, strides, n, out, dot=dot, packed=packed)

    arguments = [Argument("q", shape, "uint8"), Argument("out", (batch, 2, channels), "int32")]
    return build_kernel("sums", arguments, batch, body)


def emit_sums(
    q: Any, strides: Strides, n: Any, out: Any, out_sample: Any = None,
    dot: ByteSums | None = None, packed: bool = False,
) -> None:  # fmt: skip
    """Write the sums of sample `n` to sample `out_sample` (the same by default) of `out`.

    With `dot` four positions are read at once, where channels fill its registers.  A `packed`
    tensor is read twice: the lower halves of its bytes, then the upper ones.
    """
    at = n if out_sample is None else out_sample
    channels = number(int(q.shape[-1]))
    run = _Run.of(q, strides, dot.longest if dot else LONGEST)
    out = view(out, out.shape[0], 2, channels * 2 if packed else channels)
    if not packed:
        with shared("sums"):
            _emit_sums(run, channels, n, _Target(out, at), dot)
        return
    for half in range(2):
        first = channels * half
        with shared("sums"):
            _emit_sums(replace(run, half=half), channels, n, _Target(out, at, first), dot)


@dataclass(frozen=True)
class _Target:
    """Where sums go: a sample of `out` ``[N, 2, C]``, from a channel on."""

    out: Any
    sample: Any
    first: Any = 0

    def store(self, value: Any, row: int, channel: Any, lanes: int = 1) -> None:
        """Store sums of codes (row 0) or of their squares (row 1)."""
        place = channel + in_code(self.first)
        store(self.out, value, self.sample, row, place, lanes=lanes)


def _emit_sums(
    run: "_Run", channels: Number, n: Any, to: _Target, dot: ByteSums | None
) -> None:  # fmt: skip
    if dot is not None and _emit_quads(run, channels, n, to, dot):
        return
    together = _positions_together(channels)
    if together > 1 and run.pitch == channels and run.length >= together:
        _emit_narrow(run, int(channels), n, to, together)
        return

    def block(c: Any, lanes: int) -> None:
        pair = _Pair(lanes)
        with loop(run.count) as i, loop(run.length) as j:
            pair.see(run.load(n, i, j * in_code(run.pitch) + c, lanes))
        pair.write(lambda value, row: to.store(value, row, c, lanes))

    wide_blocks(channels, block)


@dataclass(frozen=True)
class _Run:
    """The positions read: `count` runs, of every `step`-th row, of `length` positions.

    Neighbours within a run lie `pitch` elements apart.  Codes are bytes, or their lower (0) or
    upper (1) `half`.
    """

    codes: Any
    count: Number
    length: Number
    step: Number
    pitch: Number
    half: int | None = None

    @staticmethod
    def of(q: Any, strides: Strides, longest: int) -> "_Run":
        batch, channels = q.shape[0], int(q.shape[-1])
        height, width = (1, 1) if len(q.shape) == 2 else map(int, q.shape[1:3])
        down, right = strides
        if down == right == 1 and height * width <= longest:
            height, width = 1, height * width
        rows = view(q, batch, number(height), number(width * channels))
        numbers = -(-height // down), -(-width // right), down, right * channels
        return _Run(rows, *map(number, numbers))

    def load(self, n: Any, row: Any, place: Any, lanes: int) -> Any:
        """Codes of a run, from a place on."""
        byte = load(self.codes, n, row * in_code(self.step), place, lanes=lanes)
        return byte if self.half is None else half_of(byte, self.half)


class _Pair:
    """Running sums of codes and of squared codes."""

    def __init__(self, lanes: int) -> None:
        self._rows = [Register(lanes, "int32") for _ in range(2)]

    def see(self, codes: Any) -> None:
        """Take in a vector."""
        code = let(convert(codes, "int32"))
        for register, value in zip(self._rows, (code, code * code), strict=True):
            register.set(register.get() + value)

    def write(self, put: Callable[[Any, int], None]) -> None:
        """Give both to `put`, with the number of their row."""
        for row, register in enumerate(self._rows):
            put(register.get(), row)


def _emit_quads(run: _Run, channels: Number, n: Any, to: _Target, dot: ByteSums) -> bool:
    """Write the sums by dot products, if that pays: whether it did."""
    widest = dot.widest
    length = run.length * channels
    if channels < widest and widest % channels == 0 and run.pitch == channels:
        if channels < QUARTER or length % widest:
            return False
        sums = dot.running(widest)
        _see_quads(run, n, sums, length // widest, widest, 0)
        fold(sums.rows(), int(channels), to.store)
        return True
    if channels < QUARTER or not POSITIONS // 2 <= run.length <= dot.longest:
        return False

    def block(c: Any, lanes: int) -> None:
        sums = dot.running(lanes)
        _see_quads(run, n, sums, run.length, run.pitch, c)
        rows = sums.rows()
        for row in range(2):
            to.store(load(rows, row, 0, lanes=lanes), row, c, lanes)

    wide_blocks(channels, block, widest)
    return True


def _see_quads(
    run: _Run, n: Any, sums: RunningSums, length: Number, pitch: int, first: Any
) -> None:
    """Show `sums` every vector of each run: `length` of them, `pitch` elements apart."""
    full, rest = length // POSITIONS, length % POSITIONS

    def vectors(row: Any, start: Any, count: int) -> list[Any]:
        places = [(start + k) * in_code(pitch) + first for k in range(count)]
        return [run.load(n, row, place, sums.lanes) for place in places]

    with loop(run.count) as i:
        if full:
            with loop(full) as j:
                sums.see(vectors(i, j * POSITIONS, POSITIONS))
        if rest:
            sums.see(vectors(i, in_code(full * POSITIONS), rest))
        sums.settle()


def _positions_together(channels: int) -> int:
    """How many positions of few channels fill whole vectors, 1 if none do."""
    if channels >= wide():
        return 1
    fitting = [m for m in range(1, LIMIT // channels + 1) if m * channels % VECTOR == 0]
    return max((m for m in fitting if m * channels <= wide()), default=min(fitting, default=1))


def _emit_narrow(run: _Run, channels: int, n: Any, to: _Target, together: int) -> None:
    """Few channels: several positions side by side, or each addition waits for the last."""
    lanes = together * channels
    full, rest = run.length // together, run.length % together
    pairs = [_Pair(VECTOR) for _ in range(0, lanes, VECTOR)]
    with loop(run.count) as i, loop(full) as j:
        for k, pair in enumerate(pairs):
            start = j * lanes + k * VECTOR
            pair.see(run.load(n, i, start, VECTOR))
    flat = scratch("int32", 2, lanes)
    for k, pair in enumerate(pairs):

        def keep(value: Any, row: int, at: int = k * VECTOR) -> None:
            store(flat, value, row, at, lanes=VECTOR)

        pair.write(keep)
    if rest:
        with loop(run.count) as i, loop(rest * channels) as e:
            code = let(convert(run.load(n, i, in_code(full * lanes) + e, 1), "int32"))
            store(flat, load(flat, 0, e) + code, 0, e)
            store(flat, load(flat, 1, e) + code * code, 1, e)
    with loop(channels) as c:
        for row in range(2):
            parts = [load(flat, row, c + start) for start in range(0, lanes, channels)]
            to.store(reduce(add, parts), row, c)
