"""Sums of a register tile: positions times blocks of four channels, by each of ARM's products.

All give exact int32 sums of signed codes and weights.  Source: Arm Architecture Reference Manual,
SDOT (by element), SMMLA, SMULL, SMLAL, SADALP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tvm import tirx

from tvm_probq.kernels.arm.registers import as_words, half, joined, neon, picked
from tvm_probq.kernels.arm.unit import EIGHT, QUAD, VECTOR, ArmUnit
from tvm_probq.kernels.arm.unpacking import load_weights
from tvm_probq.kernels.small.emit import lanes_of, let, load, scratch, splat, store


class Products(Protocol):
    """The running sums of a register tile."""

    def add(
        self, codes: Sequence[Any], weights: Any, place: Any, multipliers: Sequence[Any] = ()
    ) -> None:
        """Add the products of a chunk.

        `codes` holds int8 (or int16) ``[16]``, ``[8]`` or ``[4]`` for each position, and `weights`,
        a buffer ``[bytes]``, their weights from `place` on, of which registers are multiplied by
        `multipliers` in turn.
        """

    def flush(self) -> None:
        """Take over what was added in 16 bits."""

    def sums(self, column: int) -> list[Any]:
        """The sums of one position, int32 ``[4]`` for each block of four channels."""


def products_of(
    unit: ArmUnit, columns: int, quads: int, bits: int, starts: Sequence[Any], narrow: bool
) -> Products:  # fmt: skip
    """New sums that start from `starts`, int32 ``[4]`` for each block of channels.

    With `narrow` products of "smull" are added in 16 bits until `Products.flush`.
    """
    if narrow:
        return _NarrowPairs(unit, columns, quads, bits, starts)
    kinds: dict[str, Callable[..., Products]] = {
        "sdot": _Dots, "smmla": _Matrices, "smull": _Pairs, "smlal": _Words,
    }  # fmt: skip
    return kinds[unit.instruction](unit, columns, quads, bits, starts)


class _Registers:
    """Sums in registers, and weights read in turn."""

    def __init__(
        self, unit: ArmUnit, columns: int, quads: int, bits: int, starts: Sequence[Any]
    ) -> None:
        self.unit, self.columns, self.quads, self.bits = unit, columns, quads, bits
        self.starts = starts
        self.memory = scratch("int32", unit.registers(columns, quads), QUAD)

    def get(self, register: int) -> Any:
        return load(self.memory, register, 0, lanes=QUAD)

    def set(self, register: int, value: Any) -> None:
        store(self.memory, value, register, 0, lanes=QUAD)

    def clear(self) -> None:
        for register in range(self.unit.registers(self.columns, self.quads)):
            self.set(register, splat(tirx.const(0, "int32"), QUAD))

    def flush(self) -> None:
        pass

    def weights(
        self, buffer: Any, place: Any, length: int, multipliers: Sequence[Any]
    ) -> list[Any]:
        count = length * self.quads * QUAD // VECTOR
        return load_weights(buffer, place, count, self.bits, multipliers)


class _Dots(_Registers):
    """``sdot``: each lane adds four products; the codes are those of one lane of a register."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for column in range(self.columns):
            for quad in range(self.quads):
                self.set(column * self.quads + quad, self.starts[quad])

    def add(
        self, codes: Sequence[Any], weights: Any, place: Any, multipliers: Sequence[Any] = ()
    ) -> None:
        length = lanes_of(codes[0])
        words = [let(as_words(code)) for code in codes]
        factors = iter(self.weights(weights, place, length, multipliers))
        for step in range(length // self.unit.grain):
            for quad in range(self.quads):
                factor = let(next(factors))
                for column in range(self.columns):
                    self._dot(column * self.quads + quad, factor, words[column], step)

    def _dot(self, register: int, factor: Any, words: Any, step: int) -> None:
        many = lanes_of(words) > 1
        lane = picked(words, *[step] * QUAD) if many else tirx.Broadcast(words, QUAD)
        code = tirx.reinterpret("int8x16", lane)
        total = neon("int32x4", "sdot.v4i32.v16i8", self.get(register), factor, code)
        self.set(register, total)

    def sums(self, column: int) -> list[Any]:
        return [self.get(column * self.quads + quad) for quad in range(self.quads)]


class _Matrices(_Registers):
    """``smmla``: two positions times two channels, eight products each."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.clear()

    def add(
        self, codes: Sequence[Any], weights: Any, place: Any, multipliers: Sequence[Any] = ()
    ) -> None:
        length = lanes_of(codes[0])
        factors = iter(self.weights(weights, place, length, multipliers))
        seconds = [*codes[1::2], codes[-1]]  # an odd last one is paired with itself
        pairs = [_paired(a, b) for a, b in zip(codes[::2], seconds, strict=False)]
        for step in range(length // self.unit.grain):
            for channels in range(2 * self.quads):
                factor = let(next(factors))
                for pair, steps in enumerate(pairs):
                    register = pair * 2 * self.quads + channels
                    name = "smmla.v4i32.v16i8"
                    total = neon("int32x4", name, self.get(register), steps[step], factor)
                    self.set(register, total)

    def sums(self, column: int) -> list[Any]:
        first, high = column // 2 * 2 * self.quads, column % 2
        found = []
        for quad, start in enumerate(self.starts):
            parts = [half(self.get(first + 2 * quad + i), high) for i in range(2)]
            found.append(let(joined([let(p) for p in parts]) + start))
        return found


def _paired(first: Any, second: Any) -> list[Any]:
    """Registers of eight codes of each of two positions."""
    if lanes_of(first) < VECTOR:
        return [joined([first, second])]
    return [let(tirx.Shuffle([first, second], _halves(high))) for high in range(2)]


def _halves(high: int) -> list[int]:
    lanes = range(high * VECTOR // 2, (high + 1) * VECTOR // 2)
    return [start + lane for start in (0, VECTOR) for lane in lanes]


class _Pairs(_Registers):
    """``smull``: products of 16 bits, two of which are added if they fit, then in pairs to int32.

    The four lanes of a register are parts of one sum.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.clear()

    def add(
        self, codes: Sequence[Any], weights: Any, place: Any, multipliers: Sequence[Any] = ()
    ) -> None:
        length = lanes_of(codes[0])
        factors = [let(f) for f in self.weights(weights, place, length, multipliers)]
        for channel in range(QUAD * self.quads):
            if length == VECTOR:
                halves = [half(factors[channel], high) for high in range(2)]
            else:
                halves = [half(factors[channel // 2], channel % 2)]
            for column, code in enumerate(codes):
                parts = [half(code, high) for high in range(2)] if length == VECTOR else [code]
                self._see(column * QUAD * self.quads + channel, parts, halves)

    def _see(self, register: int, codes: Sequence[Any], factors: Sequence[Any]) -> None:
        found = [neon("int16x8", "smull.v8i16", *both) for both in zip(codes, factors, strict=True)]
        if self.unit.pairs and len(found) == 2:
            found = [found[0] + found[1]]
        for product in found:
            self._take(register, product)

    def _take(self, register: int, products: Any) -> None:
        pairs = neon("int32x4", "saddlp.v4i32.v8i16", products)
        self.set(register, self.get(register) + pairs)

    def sums(self, column: int) -> list[Any]:
        found = []
        for quad, start in enumerate(self.starts):
            first = column * QUAD * self.quads + quad * QUAD
            parts = [self.get(first + i) for i in range(QUAD)]
            pairs = [let(_added(*parts[i : i + 2])) for i in (0, 2)]
            found.append(let(_added(*pairs) + start))
        return found


class _NarrowPairs(_Pairs):
    """The same for weights so small that many products fit 16 bits."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.narrow = scratch("int16", self.unit.registers(self.columns, self.quads), EIGHT)
        self._clear_narrow()

    def _clear_narrow(self) -> None:
        for register in range(self.unit.registers(self.columns, self.quads)):
            zeros = splat(tirx.const(0, "int16"), EIGHT)
            store(self.narrow, zeros, register, 0, lanes=EIGHT)

    def _see(self, register: int, codes: Sequence[Any], factors: Sequence[Any]) -> None:
        total = load(self.narrow, register, 0, lanes=EIGHT)
        for both in zip(codes, factors, strict=True):
            total = let(total + neon("int16x8", "smull.v8i16", *both))
        store(self.narrow, total, register, 0, lanes=EIGHT)

    def flush(self) -> None:
        for register in range(self.unit.registers(self.columns, self.quads)):
            self._take(register, load(self.narrow, register, 0, lanes=EIGHT))
        self._clear_narrow()


class _Words(_Pairs):
    """``smlal``: codes of 16 bits times weights widened to 16, each product in 32 bits."""

    def _see(self, register: int, codes: Sequence[Any], factors: Sequence[Any]) -> None:
        total = self.get(register)
        for both in zip(codes, factors, strict=True):
            total = add_words(total, *both)
        self.set(register, total)


def add_words(total: Any, codes: Any, factors: Any) -> Any:
    """int32 ``[4]`` plus the products of int16 and int8 ``[8]``, those of both halves."""
    for product in word_products(codes, factors):
        total = let(total + product)
    return total


def word_products(codes: Any, factors: Any) -> list[Any]:
    """Products int32 ``[4]`` of int16 and int8 ``[8]``, those of the lower half first."""
    factors = let(tirx.Cast("int16x8", factors))
    return [
        neon("int32x4", "smull.v4i32", half(codes, high), half(factors, high)) for high in range(2)
    ]


def _added(a: Any, b: Any) -> Any:
    """Sums of neighbouring lanes, first those of `a`."""
    return neon("int32x4", "addp.v4i32", a, b)
