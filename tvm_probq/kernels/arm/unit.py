"""Which products of codes a CPU has, and how they take codes and weights."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm.target.codegen import target_has_features

from tvm_probq.kernels.spec import LayerSpec

QUAD = 4  # int32 lanes of a register, and so channels of a block
VECTOR = 16  # bytes of a register
EIGHT = 8  # products of one multiplication of bytes
WORD = 16  # bits of a wide code
LARGEST_CODE = 128


@dataclass(frozen=True)
class ArmUnit:
    """Products of signed bytes, or of words with bytes.

    Attributes
    ----------
    instruction : str
        "sdot" (four products a lane), "smmla" (eight for each of two positions and two channels)
        or "smull" (eight, widened to 16 bits, that are added in pairs); for codes of 16 bits
        "smlal" (four, added to as many sums).
    grain : int
        Codes of one position that an instruction takes at least.
    pairs : bool
        Of "smull": whether two products may be added in 16 bits.
    """

    instruction: str
    grain: int
    pairs: bool = True

    @property
    def columns(self) -> int:
        """Positions whose sums share registers."""
        return 2 if self.instruction == "smmla" else 1

    def registers(self, columns: int, quads: int) -> int:
        """Registers that hold the sums of `columns` positions times `quads` of four channels."""
        if self.instruction == "sdot":
            return columns * quads
        if self.instruction == "smmla":
            return -(-columns // 2) * 2 * quads
        return columns * QUAD * quads


def arm_unit(spec: LayerSpec, target: tvm.target.Target) -> ArmUnit:
    """The products that a target computes the layer `spec` with."""
    if spec.in_bits == WORD:
        return ArmUnit("smlal", 8)
    dots = target_has_features("dotprod", target) and not spec.depthwise
    if dots and target_has_features("i8mm", target) and spec.out_height * spec.out_width > 1:
        return ArmUnit("smmla", 8)
    if dots:
        return ArmUnit("sdot", 4)
    return ArmUnit("smull", 8, spec.signed_pairs_fit)


def narrow_sums(bits: int) -> int:
    """Products of weights of `bits` bits and signed codes whose sum 16 bits hold."""
    return (2**15 - 1) // (LARGEST_CODE << bits - 1)
