"""Weight codes as kernels take them: checks, and two codes in a byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.quantization.accumulator import prove_accumulator

Codes = npt.NDArray[np.int8]
Packed = npt.NDArray[np.int8] | npt.NDArray[np.uint8]


def check_codes(spec: LayerSpec, weights: Codes) -> None:
    """Raise `KernelError` unless `weights` are codes ``[OC, KH, KW, IC / groups]`` of the layer.

    Raises
    ------
    KernelError
        For another dtype or shape, a code outside of -8..7 with 4-bit weights, or one that is
        larger than it was proven to be.
    """
    wanted = (spec.out_channels, *spec.kernel, spec.group_inputs)
    if weights.dtype != np.int8 or weights.shape != wanted:
        raise KernelError(
            "these are not the weights of the layer",
            where=str(spec),
            why=f"they are {weights.dtype} {weights.shape}, not int8 {wanted}",
            fix="give the codes in the order output channel, row, column, input channel",
        )
    if spec.weight_bits == 4 and (weights.min() < -8 or weights.max() > 7):
        raise KernelError(
            "a weight code does not fit 4 bits",
            where=str(spec),
            why=f"the codes reach from {weights.min()} to {weights.max()}",
            fix="quantize the weights to -8..7, or store 8 bits",
        )
    if spec.small_weights and not prove_accumulator(weights).pairs_fit:
        raise KernelError(
            "two products do not fit 16 bits",
            where=str(spec),
            why=f"the codes reach from {weights.min()} to {weights.max()}, not within -64..64",
            fix="unset small_weights",
        )
    if spec.symmetric and weights.min() == -128:
        raise KernelError(
            "a weight code is -128",
            where=str(spec),
            why="the layer says that none is",
            fix="unset symmetric",
        )


def nibbles(low: Codes, high: Codes) -> npt.NDArray[np.uint8]:
    """Codes of -8..7 plus 8, `low` in the lower half of each byte."""
    packed: npt.NDArray[np.uint8] = (low + 8).astype(np.uint8) | (
        (high + 8).astype(np.uint8) << np.uint8(4)
    )
    return packed
