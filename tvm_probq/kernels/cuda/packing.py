"""Weights as device code reads them."""

from __future__ import annotations

import numpy as np

from tvm_probq.kernels.codes import Codes, Packed, nibbles
from tvm_probq.kernels.spec import LayerSpec

CHUNK = 16  # codes that a thread loads at once


def packed_shape(spec: LayerSpec) -> tuple[tuple[int, ...], str]:
    """Shape and dtype: ``[OC, taps * inputs]`` in whole chunks, ``[taps, C]`` of depthwise layers.

    Two codes share a byte with 4-bit weights.
    """
    taps = spec.kernel[0] * spec.kernel[1]
    if spec.depthwise:
        size = taps * spec.out_channels
        return ((size,), "int8") if spec.weight_bits == 8 else ((-(-size // 2),), "uint8")
    length = -(-taps * spec.group_inputs // CHUNK) * CHUNK
    if spec.weight_bits == 8:
        return (spec.out_channels, length), "int8"
    return (spec.out_channels, length // 2), "uint8"


def pack(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes ``[OC, KH, KW, IC / groups]`` in that shape."""
    shape, _ = packed_shape(spec)
    if spec.depthwise:
        flat = np.ascontiguousarray(weights.reshape(spec.out_channels, -1).T).reshape(-1)
        if spec.weight_bits == 8:
            return flat
        flat = np.pad(flat, (0, flat.size % 2))
        return nibbles(flat[::2], flat[1::2])
    rows = weights.reshape(spec.out_channels, -1)
    length = shape[1] * (8 // spec.weight_bits)
    rows = np.pad(rows, ((0, 0), (0, length - rows.shape[1])))
    if spec.weight_bits == 8:
        return np.ascontiguousarray(rows)
    eights = rows.reshape(spec.out_channels, -1, 8)  # the halves of four bytes
    return nibbles(eights[:, :, :4], eights[:, :, 4:]).reshape(shape)
