"""Weights as device code reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_probq.kernels.codes import Codes, Packed, nibbles, split_codes
from tvm_probq.kernels.spec import LayerSpec

CHUNK = 16  # codes that a thread loads at once
NIBBLE = 4
Bytes = npt.NDArray[np.uint8]


def packed_shape(spec: LayerSpec) -> tuple[tuple[int, ...], str]:
    """Shape and dtype: ``[OC, taps * inputs]`` in whole chunks, ``[taps, C]`` of depthwise layers.

    Codes of fewer than 8 bits share bytes.  With multipliers all is flat, and they are behind:
    ``[OC, runs]``.
    """
    taps = spec.kernel[0] * spec.kernel[1]
    if spec.depthwise:
        size = taps * spec.out_channels
        return ((size,), "int8") if spec.weight_bits == 8 else ((-(-size // 2),), "uint8")
    chunks = -(-taps * spec.group_inputs // CHUNK)
    if spec.weight_bits == 8:
        return (spec.out_channels, chunks * CHUNK), "int8"
    row = chunks * CHUNK * spec.weight_bits // 8
    if spec.weight_group:
        return (spec.out_channels * (row + spec.runs),), "uint8"
    return (spec.out_channels, row), "uint8"


def pack(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes ``[OC, KH, KW, IC / groups]`` in that shape."""
    if spec.depthwise:
        return _pack_depthwise(spec, weights)
    if spec.weight_group:
        weights, multipliers = split_codes(weights, spec.weight_group)
        return np.concatenate([_pack_rows(spec, weights).reshape(-1), multipliers.reshape(-1)])
    return _pack_rows(spec, weights)


def _pack_rows(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes to rows ``[OC, bytes]``."""
    rows = weights.reshape(spec.out_channels, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % CHUNK)))
    if spec.weight_bits == 8:
        return np.ascontiguousarray(rows)
    half = 1 << spec.weight_bits - 1
    codes = (rows + half).astype(np.uint8).reshape(spec.out_channels, -1, 4, 4)
    planes: list[Bytes] = []
    if spec.weight_bits >= NIBBLE:
        low = codes & np.uint8(15)
        planes += [_together(low[:, :, :2], NIBBLE), _together(low[:, :, 2:], NIBBLE)]
        codes = codes >> np.uint8(NIBBLE)
    if spec.weight_bits != NIBBLE:
        planes.append(_together(codes, 2))
    return np.concatenate(planes, 2).reshape(spec.out_channels, -1)


def _together(parts: Bytes, width: int) -> Bytes:
    """Bytes ``[OC, chunks, 4]`` of parts ``[OC, chunks, n, 4]``, the first in the lowest bits."""
    shifts = np.arange(parts.shape[2], dtype=np.uint8) * np.uint8(width)
    moved: Bytes = parts << shifts[:, None]
    joined: Bytes = np.bitwise_or.reduce(moved, axis=2)
    return joined


def _pack_depthwise(spec: LayerSpec, weights: Codes) -> Packed:
    flat = np.ascontiguousarray(weights.reshape(spec.out_channels, -1).T).reshape(-1)
    if spec.weight_bits == 8:
        return flat
    flat = np.pad(flat, (0, flat.size % 2))
    return nibbles(flat[::2], flat[1::2])
