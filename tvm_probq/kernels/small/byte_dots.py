"""Sums of codes and of squared codes by a machine's dot product of bytes, four positions at once.

The bytes of one channel at four positions are brought side by side by two rounds of interleaving,
and one instruction adds four codes, another their squares, to the sums of 16 channels.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from tvm import tirx
from tvm.tirx import Shuffle

from tvm_probq.kernels.small.emit import Register, let, load, scratch, store

POSITIONS = 4
QUARTER = 16  # bytes of 128 bits, within which a register interleaves
WORD = 4  # bytes of an int32
OFFSET = 128  # codes less this are signed


class ByteDot(Protocol):
    """A dot product of bytes."""

    @property
    def widest(self) -> int:
        """Bytes of a register."""

    def __call__(self, sums: Any, codes: Any, factors: Any) -> Any:
        """``sums[i] + codes[4i : 4i + 4] . factors[4i : 4i + 4]``.

        `sums` are int32 ``[L]``, `codes` uint8 and `factors` int8 ``[4 L]``.
        """


class QuadSums:
    """Running sums of `lanes` bytes, each of which is a channel (or the same one again)."""

    def __init__(self, dot: ByteDot, lanes: int) -> None:
        self.lanes = lanes
        self._dot = dot
        words = lanes // WORD
        self._rows = [[Register(words, "int32") for _ in range(WORD)] for _ in range(2)]

    def see(self, vectors: Sequence[Any]) -> None:
        """Take in up to four vectors uint8 ``[lanes]`` of codes."""
        zeros = [tirx.const(0, f"uint8x{self.lanes}")] * (POSITIONS - len(vectors))
        quads = _transposed([*map(let, vectors), *zeros], self.lanes)
        ones = tirx.const(1, f"int8x{self.lanes}")
        for total, square, quad in zip(*self._rows, quads, strict=True):
            signed = quad ^ tirx.const(OFFSET, f"uint8x{self.lanes}")
            total.set(self._dot(total.get(), quad, ones))
            square.set(self._dot(square.get(), quad, tirx.reinterpret(ones.ty, signed)))

    def rows(self) -> Any:
        """Both sums of each byte's place in an int32 buffer ``[2, lanes]``."""
        found = scratch("int32", 2, self.lanes)
        for part in range(WORD):
            totals, squares = (row[part] for row in self._rows)
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
        (_interleaved(first, second, lanes, 1, high), _interleaved(third, fourth, lanes, 1, high))
        for high in (False, True)
    ]
    return [_interleaved(*pair, lanes, 2, high) for pair in pairs for high in (False, True)]


def _interleaved(a: Any, b: Any, lanes: int, size: int, high: bool) -> Any:
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


def fold(found: Any, channels: int, out: Any, *index: Any) -> None:
    """Add up the channels that come again in ``[2, lanes]`` into `out` ``[.., 2, C]``."""
    lanes = int(found.shape[1])
    for row in range(2):
        total = load(found, row, 0, lanes=channels)
        for start in range(channels, lanes, channels):
            total = total + load(found, row, start, lanes=channels)
        store(out, total, *index, row, 0, lanes=channels)
