"""Proof that an integer accumulator cannot overflow."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.errors import UnsupportedError
from tvm_probq.simulator.arithmetic import Array

CODE_MAX = 255


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
    """

    bound: int
    bits: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}: {self.bits} bits needed, |sum| <= {self.bound}"


def prove_accumulator(codes: Array, where: str = "") -> AccumulatorProof:
    """Bound the accumulator of int8 weights, output channels first.

    Raises
    ------
    UnsupportedError
        When int32 does not hold the sums.
    """
    per_channel = np.abs(codes.astype(np.int64)).reshape(codes.shape[0], -1).sum(1)
    bound = int(per_channel.max(initial=0)) * CODE_MAX
    bits = (2 * bound).bit_length() + 1
    if bits > 32:
        raise UnsupportedError(
            f"the layer's sums need {bits} bits", where=where,
            why="int32 is the widest accumulator of the kernels",
            fix="quantize its weights to fewer bits, or keep the layer float",
        )  # fmt: skip
    return AccumulatorProof(bound, bits, "int32")
