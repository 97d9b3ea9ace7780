"""Weight codes as kernels take them: how many bits they are stored in, checks, codes in a byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.quantization.accumulator import prove_accumulator
from tvm_probq.quantization.weights import WEIGHT_GROUPS

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


def stored_form(weights: Codes, depthwise: bool) -> tuple[int, int]:
    """The fewest bits for these codes, and the group of inputs whose multiplier allows them.

    The group is 0 where codes without multipliers need no more bits.  Nothing is lost, whichever
    way codes were made: a multiplier is the largest common divisor of its codes.

    Parameters
    ----------
    weights : ndarray of int8, shape [OC, KH, KW, IC / groups]
        Codes of a layer.
    depthwise : bool
        Whether the layer is a depthwise one.
    """
    found = [(stored_bits(weights, depthwise), 0)]
    for group in sorted(WEIGHT_GROUPS, reverse=True):
        if not depthwise and group < weights.shape[3]:
            found.append((stored_bits(split_codes(weights, group)[0], depthwise), group))
    return min(found, key=lambda form: form[0])


def split_codes(weights: Codes, group: int) -> tuple[Codes, npt.NDArray[np.uint8]]:
    """Codes of few bits, and what multiplies those of every `group` input channels.

    Returns
    -------
    codes : ndarray of int8
        Of the shape of `weights`.
    multipliers : ndarray of uint8, shape [OC, runs]
        At least 1.
    """
    sizes = np.abs(weights.astype(np.int16))
    channels = np.gcd.reduce(sizes.reshape(len(sizes), -1, sizes.shape[3]), axis=1)
    starts = np.arange(0, weights.shape[3], group)
    multipliers = np.maximum(np.gcd.reduceat(channels, starts, axis=1), 1)
    each = np.repeat(multipliers, group, axis=1)[:, : weights.shape[3]]
    codes = weights // each[:, None, None]
    return codes.astype(np.int8), multipliers.astype(np.uint8)


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
    codes = split_codes(weights, spec.weight_group)[0] if spec.weight_group else weights
    if codes.min() < -half or codes.max() >= half:
        raise KernelError(
            f"a weight code does not fit {spec.weight_bits} bits",
            where=str(spec),
            why=f"the codes reach from {codes.min()} to {codes.max()}",
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
