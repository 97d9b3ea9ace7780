"""VPDPBUSD as an expression, for the small kernels that sum up codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.target.codegen import target_has_features

from tvm_probq.kernels.small.byte_dots import LONGEST, QuadSums
from tvm_probq.kernels.small.emit import lanes_of


@dataclass(frozen=True)
class Vpdpbusd:
    """`ByteSums` and their `ByteDot` of AVX512-VNNI or AVX-VNNI."""

    widest: int
    longest = LONGEST
    signed = True

    def running(self, lanes: int) -> QuadSums:
        """New sums."""
        return QuadSums(self, lanes)

    def __call__(self, sums: Any, codes: Any, factors: Any) -> Any:
        """Add the products."""
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes_of(sums)}"
        signed = tirx.reinterpret(factors.ty, codes)  # LLVM knows no sign, TVM checks it
        return tirx.call_llvm_pure_intrin(sums.ty, name, sums, signed, factors)


def byte_dot(target: tvm.target.Target) -> Vpdpbusd | None:
    """The dot product of a target's bytes, None where it has none."""
    if target_has_features("avx512vnni", target):
        return Vpdpbusd(64)
    return Vpdpbusd(32) if target_has_features("avxvnni", target) else None
