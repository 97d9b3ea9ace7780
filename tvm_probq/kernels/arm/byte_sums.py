"""Sums of codes and of their squares on ARM: by UDOT, or by products of pairs.

Source: Arm Architecture Reference Manual, UDOT (vector), UADALP, UMULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.target.codegen import target_has_features

from tvm_probq.kernels.arm.registers import half, neon
from tvm_probq.kernels.arm.unit import QUAD, VECTOR
from tvm_probq.kernels.small.byte_dots import LONGEST, ByteSums, QuadSums, interleaved
from tvm_probq.kernels.small.emit import Register, let, scratch, store
from tvm_probq.kernels.small.floats import convert

WORDS = VECTOR // 2  # 16-bit lanes of a register


def arm_sums(target: tvm.target.Target) -> ByteSums:
    """The sums of a CPU with NEON."""
    return DotSums() if target_has_features("dotprod", target) else PairSums()


@dataclass(frozen=True)
class DotSums:
    """`ByteSums` and their `ByteDot` of Armv8.2-A: ``udot``."""

    widest = VECTOR
    longest = LONGEST
    signed = False

    def running(self, lanes: int) -> QuadSums:
        """New sums."""
        return QuadSums(self, lanes)

    def __call__(self, sums: Any, codes: Any, factors: Any) -> Any:
        """Add the products."""
        return neon("int32x4", "udot.v4i32.v16i8", sums, codes, factors)


@dataclass(frozen=True)
class PairSums:
    """`ByteSums` of NEON alone: two positions side by side, added in pairs."""

    widest = VECTOR
    longest = 256  # codes whose sum fits 16 bits

    def running(self, lanes: int) -> RunningPairs:
        """New sums."""
        return RunningPairs(lanes)


class RunningPairs:
    """`RunningSums` of 16 channels: of codes in 16 bits until they settle, of squares in 32."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._codes = [Register(WORDS, "uint16") for _ in range(2)]
        self._totals, self._squares = (
            [Register(QUAD, "int32") for _ in range(VECTOR // QUAD)] for _ in range(2)
        )

    def see(self, vectors: Sequence[Any]) -> None:
        """Take in positions two by two."""
        zeros = [tirx.const(0, f"uint8x{self.lanes}")] * (len(vectors) % 2)
        given = [*map(let, vectors), *zeros]
        for pair in zip(given[::2], given[1::2], strict=True):
            for high, codes in enumerate(self._codes):
                both = interleaved(*pair, self.lanes, 1, bool(high))
                codes.set(codes.get() + neon("uint16x8", "uaddlp.v8i16.v16i8", both))
                for part in range(2):
                    bytes_ = let(half(both, part))
                    squares = neon("uint16x8", "umull.v8i16", bytes_, bytes_)
                    row = self._squares[2 * high + part]
                    row.set(row.get() + neon("int32x4", "uaddlp.v4i32.v8i16", squares))

    def settle(self) -> None:
        """Move the sums of codes to 32 bits."""
        for high, codes in enumerate(self._codes):
            for part in range(2):
                total = self._totals[2 * high + part]
                total.set(total.get() + convert(codes.get(QUAD, QUAD * part), "int32"))
            codes.set(tirx.const(0, f"uint16x{WORDS}"))

    def rows(self) -> Any:
        """Both sums of each byte's place in an int32 buffer ``[2, lanes]``."""
        found = scratch("int32", 2, self.lanes)
        for row, registers in enumerate((self._totals, self._squares)):
            for place, register in enumerate(registers):
                store(found, register.get(), row, QUAD * place, lanes=QUAD)
        return found
