"""Proof that an integer accumulator cannot overflow."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.errors import UnsupportedError
from tvm_probq.simulator.arithmetic import Array

CODE_MAX = 255
ACCUMULATOR_MAX = 2**31 - 1
PAIR_MAX = 2**15 - 1  # largest sum of two products of an instruction that saturates them


@dataclass(frozen=True)
class AccumulatorProof:
    """Bound of every partial sum of a layer.

    Attributes
    ----------
    bound : int
        ``max over channels of sum |w|`` times the largest code, 255 in 8 bits: no partial sum of
        codes times weights, no product of a zero-point with the weights' sum and no sum with
        zero-point padding exceeds it, whichever order is taken; their difference stays below twice
        the bound.
    bits : int
        Signed width that holds ``2 * bound``.
    dtype : str
        Narrowest type of the kernels that does.
    pair_bound : int
        Twice ``max |w|`` times that code: no sum of two products exceeds it, whichever weights are
        paired.
    """

    bound: int
    bits: int
    dtype: str
    pair_bound: int = 0

    @property
    def pairs_fit(self) -> bool:
        """Whether every sum of two products fits 16 bits: all weights are within -64..64."""
        return self.pair_bound <= PAIR_MAX

    def __str__(self) -> str:
        pairs = f", two products <= {self.pair_bound}" if self.pairs_fit else ""
        return f"{self.dtype}: {self.bits} bits needed, |sum| <= {self.bound}{pairs}"


def prove_accumulator(
    codes: Array, where: str = "", code_max: int = CODE_MAX
) -> AccumulatorProof:  # fmt: skip
    """Bound the accumulator of int8 weights, output channels first, and codes up to `code_max`.

    Raises
    ------
    UnsupportedError
        When int32 does not hold the sums.
    """
    sizes = np.abs(codes.astype(np.int64)).reshape(codes.shape[0], -1)
    bound = int(sizes.sum(1).max(initial=0)) * code_max
    pair_bound = 2 * code_max * int(sizes.max(initial=0))
    bits = (2 * bound).bit_length() + 1
    if bits > 32:
        raise UnsupportedError(
            f"the layer's sums need {bits} bits", where=where,
            why="int32 is the widest accumulator of the kernels",
            fix="quantize its weights to fewer bits, or keep the layer float",
        )  # fmt: skip
    return AccumulatorProof(bound, bits, "int32", pair_bound)


def largest_code(codes: Array) -> int:
    """The largest code of an input for which the sums with these weights are proven to fit int32.

    Parameters
    ----------
    codes : Array
        int8 weights, output channels first.
    """
    sizes = np.abs(codes.astype(np.int64)).reshape(codes.shape[0], -1)
    return ACCUMULATOR_MAX // max(2 * int(sizes.sum(1).max(initial=0)), 1)
