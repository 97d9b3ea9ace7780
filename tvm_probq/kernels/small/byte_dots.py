"""Sums of codes and of squared codes by what a machine has for bytes.

With a dot product, the bytes of one channel at four positions are brought side by side by two
rounds of interleaving, and one instruction adds four codes, another their squares, to the sums of
a register's channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tvm import tirx
from tvm.tirx import Shuffle

from tvm_probq.kernels.small.emit import Register, let, load, scratch, store

POSITIONS = 4
QUARTER = 16  # bytes of 128 bits, within which a register interleaves
WORD = 4  # bytes of an int32
LONGEST = 1 << 15  # positions whose squares fit int32
OFFSET = 128  # codes less this are signed


class RunningSums(Protocol):
    """Running sums of `lanes` bytes, each of which is a channel (or the same one again)."""

    @property
    def lanes(self) -> int:
        """Bytes of a vector."""

    def see(self, vectors: Sequence[Any]) -> None:
        """Take in up to four vectors uint8 ``[lanes]`` of codes, each of another position."""

    def settle(self) -> None:
        """Make room for the next `ByteSums.longest` positions."""

    def rows(self) -> Any:
        """Both sums of each byte's place in an int32 buffer ``[2, lanes]``."""


class ByteSums(Protocol):
    """A machine's way to add up bytes and their squares."""

    @property
    def widest(self) -> int:
        """Bytes of a vector."""

    @property
    def longest(self) -> int:
        """Positions that `RunningSums` take in before they must settle."""

    def running(self, lanes: int) -> RunningSums:
        """New sums, of zero; `lanes` is `widest`, or less if that is more than 16."""


class ByteDot(Protocol):
    """A dot product of bytes."""

    @property
    def signed(self) -> bool:
        """Whether the second factors are int8, else uint8."""

    def __call__(self, sums: Any, codes: Any, factors: Any) -> Any:
        """``sums[i] + codes[4i : 4i + 4] . factors[4i : 4i + 4]``.

        `sums` are int32 ``[L]``, `codes` uint8 and `factors` bytes ``[4 L]``.
        """


class QuadSums:
    """`RunningSums` by a dot product."""

    def __init__(self, dot: ByteDot, lanes: int) -> None:
        self.lanes = lanes
        self._dot = dot
        words = lanes // WORD
        self._rows = [[Register(words, "int32") for _ in range(WORD)] for _ in range(2)]

    def see(self, vectors: Sequence[Any]) -> None:
        """Take in four positions at once."""
        zeros = [tirx.const(0, f"uint8x{self.lanes}")] * (POSITIONS - len(vectors))
        quads = _transposed([*map(let, vectors), *zeros], self.lanes)
        ones = tirx.const(1, f"{'int8' if self._dot.signed else 'uint8'}x{self.lanes}")
        for total, square, quad in zip(*self._rows, quads, strict=True):
            factors = quad
            if self._dot.signed:
                signed = quad ^ tirx.const(OFFSET, f"uint8x{self.lanes}")
                factors = tirx.reinterpret(ones.ty, signed)
            total.set(self._dot(total.get(), quad, ones))
            square.set(self._dot(square.get(), quad, factors))

    def settle(self) -> None:
        """Nothing: the sums are int32."""

    def rows(self) -> Any:
        """Both sums, those of squares by way of ``q q = q (q - 128) + 128 q`` if need be."""
        found = scratch("int32", 2, self.lanes)
        for part in range(WORD):
            totals, squares = (row[part] for row in self._rows)
            if self._dot.signed:
                squares.set(squares.get() + totals.get() * OFFSET)
            for row, register in enumerate((totals, squares)):
                for quarter in range(self.lanes // QUARTER):
                    value = register.get(WORD, WORD * quarter)
                    at = QUARTER * quarter + WORD * part
                    store(found, value, row, at, lanes=WORD)
        return found


def _transposed(vectors: Sequence[Any], lanes: int) -> list[Any]:
    """Four vectors of words from four of bytes.

    Word w of quarter k of result r has byte ``16 k + 4 r + w`` of each.
    """
    first, second, third, fourth = vectors
    pairs = [
        (interleaved(first, second, lanes, 1, high), interleaved(third, fourth, lanes, 1, high))
        for high in (False, True)
    ]
    return [interleaved(*pair, lanes, 2, high) for pair in pairs for high in (False, True)]


def interleaved(a: Any, b: Any, lanes: int, size: int, high: bool) -> Any:
    """Units of `size` bytes of `a` and `b` in turn, from one half of each 128 bits."""
    half = QUARTER // 2
    order = [
        start + source * lanes + byte
        for quarter in range(0, lanes, QUARTER)
        for start in range(quarter + half * high, quarter + half * high + half, size)
        for source in range(2)
        for byte in range(size)
    ]
    return let(Shuffle([a, b], order))


def fold(found: Any, channels: int, put: Callable[[Any, int, Any, int], None]) -> None:
    """Add up channels that come again in ``[2, lanes]``, for ``put(sums, row, 0, channels)``."""
    lanes = int(found.shape[1])
    for row in range(2):
        total = load(found, row, 0, lanes=channels)
        for start in range(channels, lanes, channels):
            total = total + load(found, row, start, lanes=channels)
        put(total, row, 0, channels)
