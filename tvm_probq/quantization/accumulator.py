"""Proof that an integer accumulator cannot overflow."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.errors import UnsupportedError
from tvm_probq.simulator.arithmetic import Array

CODE_MAX = 255
PAIR_MAX = 2**15 - 1  # largest sum of two products of an instruction that saturates them


@dataclass(frozen=True)
class AccumulatorProof:
    """Bound of every partial sum of a layer.

    Attributes
    ----------
    bound : int
        ``max over channels of sum |w| * 255``: no partial sum of codes times weights, no product of
        a zero-point with the weights' sum and no sum with zero-point padding exceeds it, whichever
        order is taken; their difference stays below twice the bound.
    bits : int
        Signed width that holds ``2 * bound``.
    dtype : str
        Narrowest type of the kernels that does.
    pair_bound : int
        ``2 * 255 * max |w|``: no sum of two products exceeds it, whichever weights are paired.
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


def prove_accumulator(codes: Array, where: str = "") -> AccumulatorProof:
    """Bound the accumulator of int8 weights, output channels first.

    Raises
    ------
    UnsupportedError
        When int32 does not hold the sums.
    """
    sizes = np.abs(codes.astype(np.int64)).reshape(codes.shape[0], -1)
    bound = int(sizes.sum(1).max(initial=0)) * CODE_MAX
    pair_bound = 2 * CODE_MAX * int(sizes.max(initial=0))
    bits = (2 * bound).bit_length() + 1
    if bits > 32:
        raise UnsupportedError(
            f"the layer's sums need {bits} bits", where=where,
            why="int32 is the widest accumulator of the kernels",
            fix="quantize its weights to fewer bits, or keep the layer float",
        )  # fmt: skip
    return AccumulatorProof(bound, bits, "int32", pair_bound)
