"""Weights as device code reads them."""

from __future__ import annotations

import numpy as np

from tvm_probq.kernels.codes import Codes, Packed, nibbles
from tvm_probq.kernels.spec import LayerSpec

CHUNK = 16  # codes that a thread loads at once
NIBBLE = 4


def packed_shape(spec: LayerSpec) -> tuple[tuple[int, ...], str]:
    """Shape and dtype: ``[OC, taps * inputs]`` in whole chunks, ``[taps, C]`` of depthwise layers.

    Codes of fewer than 8 bits share bytes.
    """
    taps = spec.kernel[0] * spec.kernel[1]
    if spec.depthwise:
        size = taps * spec.out_channels
        return ((size,), "int8") if spec.weight_bits == 8 else ((-(-size // 2),), "uint8")
    chunks = -(-taps * spec.group_inputs // CHUNK)
    if spec.weight_bits == 8:
        return (spec.out_channels, chunks * CHUNK), "int8"
    return (spec.out_channels, chunks * CHUNK * spec.weight_bits // 8), "uint8"


def pack(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes ``[OC, KH, KW, IC / groups]`` in that shape."""
    shape, _ = packed_shape(spec)
    if spec.depthwise:
        return _pack_depthwise(spec, weights)
    rows = weights.reshape(spec.out_channels, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % CHUNK)))
    if spec.weight_bits == 8:
        return np.ascontiguousarray(rows)
    half = 1 << spec.weight_bits - 1
    words = (rows + half).astype(np.uint8).reshape(spec.out_channels, -1, 4, 4)
    planes = []
    if spec.weight_bits >= NIBBLE:
        low = words & 15
        planes += [low[:, :, 0] | low[:, :, 1] << 4, low[:, :, 2] | low[:, :, 3] << 4]
        words = words >> NIBBLE
    if spec.weight_bits != NIBBLE:
        planes.append(sum(words[:, :, i] << 2 * i for i in range(4)))
    return np.ascontiguousarray(np.concatenate(planes, 2), np.uint8).reshape(shape)


def _pack_depthwise(spec: LayerSpec, weights: Codes) -> Packed:
    flat = np.ascontiguousarray(weights.reshape(spec.out_channels, -1).T).reshape(-1)
    if spec.weight_bits == 8:
        return flat
    flat = np.pad(flat, (0, flat.size % 2))
    return nibbles(flat[::2], flat[1::2])
