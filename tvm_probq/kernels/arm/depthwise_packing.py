"""Weights of depthwise layers in the order in which the kernels of ARM read them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_probq.kernels.arm.packing import INT32_BYTES, as_packed, header
from tvm_probq.kernels.arm.source import padded_channels
from tvm_probq.kernels.arm.unit import EIGHT, VECTOR
from tvm_probq.kernels.codes import Codes, Packed, nibbles
from tvm_probq.kernels.spec import LayerSpec


def depthwise_bytes(spec: LayerSpec) -> int:
    """Bytes of the kernel's argument W."""
    taps = spec.kernel[0] * spec.kernel[1]
    rows = taps if spec.weight_bits == 8 else -(-taps // 2)
    return depthwise_header_bytes(spec) + rows * padded_channels(spec)


def pack_depthwise(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes ``[C, KH, KW, 1]`` to vectors of channels > taps > channels, 16 channels or 8."""
    taps, channels = spec.kernel[0] * spec.kernel[1], padded_channels(spec)
    codes = np.zeros((taps + taps % 2, channels), np.int8)
    codes[:taps, : spec.out_channels] = weights.reshape(spec.out_channels, taps).T
    parts: list[npt.NDArray[np.uint8]] = [header(spec, weights, 1, channels)]
    for first, lanes in channel_vectors(spec):
        part = codes[:, first : first + lanes]
        if spec.weight_bits == 8:
            parts.append(np.ascontiguousarray(part[:taps]).view(np.uint8).reshape(-1))
        else:
            parts.append((nibbles(part[0::2], part[1::2]) ^ np.uint8(0x88)).reshape(-1))
    return as_packed(spec, parts)


def depthwise_header_bytes(spec: LayerSpec) -> int:
    """Bytes in front of the weights, for raw sums."""
    return padded_channels(spec) * INT32_BYTES if spec.output == "int32" else 0


def channel_vectors(spec: LayerSpec) -> list[tuple[int, int]]:
    """First channel and lanes of every vector."""
    channels = padded_channels(spec)
    whole = channels // VECTOR * VECTOR
    found = [(c, VECTOR) for c in range(0, whole, VECTOR)]
    return found + ([(whole, EIGHT)] if channels > whole else [])
