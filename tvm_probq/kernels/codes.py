"""Weight codes as kernels take them: how many bits they are stored in, checks, codes in a byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.quantization.accumulator import prove_accumulator

Codes = npt.NDArray[np.int8]
Packed = npt.NDArray[np.int8] | npt.NDArray[np.uint8]
WIDTHS = (2, 4, 6, 8)  # bits that a weight can be stored in
DEPTHWISE_WIDTHS = (4, 8)  # of the few that a depthwise layer has


def stored_bits(weights: Codes, depthwise: bool) -> int:
    """The fewest bits that kernels can store these codes in.

    Parameters
    ----------
    weights : ndarray of int8
        Codes of a layer.
    depthwise : bool
        Whether the layer is a depthwise one.
    """
    low, high = int(weights.min(initial=0)), int(weights.max(initial=0))
    widths = DEPTHWISE_WIDTHS if depthwise else WIDTHS
    return next(bits for bits in widths if -(1 << bits - 1) <= low and high < 1 << bits - 1)


def check_codes(spec: LayerSpec, weights: Codes) -> None:
    """Raise `KernelError` unless `weights` are codes ``[OC, KH, KW, IC / groups]`` of the layer.

    Raises
    ------
    KernelError
        For another dtype or shape, a code that does not fit the bits of the layer's weights, or
        one that is larger than it was proven to be.
    """
    wanted = (spec.out_channels, *spec.kernel, spec.group_inputs)
    if weights.dtype != np.int8 or weights.shape != wanted:
        raise KernelError(
            "these are not the weights of the layer",
            where=str(spec),
            why=f"they are {weights.dtype} {weights.shape}, not int8 {wanted}",
            fix="give the codes in the order output channel, row, column, input channel",
        )
    half = 1 << spec.weight_bits - 1
    if weights.min() < -half or weights.max() >= half:
        raise KernelError(
            f"a weight code does not fit {spec.weight_bits} bits",
            where=str(spec),
            why=f"the codes reach from {weights.min()} to {weights.max()}",
            fix=f"quantize the weights to {-half}..{half - 1}, or store 8 bits",
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
