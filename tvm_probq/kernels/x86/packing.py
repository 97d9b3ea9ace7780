"""Weights from the layout of the model to the layout of a kernel of x86, once at compile time."""

from __future__ import annotations

import numpy as np

from tvm_probq.kernels.codes import Codes, Packed, nibbles, split_codes
from tvm_probq.kernels.planes import Bytes, pack_planes
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.amx_shape import Chunks

LANES = 16
TILED_RANK = 7


def pack_conv(
    spec: LayerSpec, weights: Codes, shape: tuple[int, ...], biased: bool = False
) -> Packed:
    """Codes OHWI to ``[blocks, KH, KW, steps, 16, bytes]``, zeros in the padding.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    weights : ndarray of int8, shape [OC, KH, KW, IC / groups]
        The codes.
    shape : tuple of int
        `tvm_probq.kernels.x86.unpacking.byte_shape`; a kernel row may be merged to one run of
        bytes (KW = 1).
    biased : bool
        See `tvm_probq.kernels.x86.unpacking.is_biased`.

    Returns
    -------
    packed : ndarray of int8 or uint8
        int8 for 8 bits, else uint8 `tvm_probq.kernels.planes.pack_planes`; with multipliers flat,
        and those behind.
    """
    if spec.weight_group:
        weights, multipliers = split_codes(weights, spec.weight_group)
    found = (_pack_chunks if len(shape) == TILED_RANK else _pack_steps)(spec, weights, shape)
    if spec.weight_bits == 8:
        return found
    registers = found.reshape(shape[0], -1, LANES * shape[-1])
    if biased:
        registers = registers + np.int8(1 << spec.weight_bits - 1)
    planes = pack_planes(registers, spec.weight_bits)
    if not spec.weight_group:
        return planes
    return np.concatenate([planes.reshape(-1), _pack_multipliers(spec, multipliers, shape[0])])


def _pack_multipliers(spec: LayerSpec, multipliers: Bytes, blocks: int) -> Bytes:
    """Multipliers ``[OC, runs]`` to blocks, runs, lanes, one behind the other."""
    split = multipliers.reshape(spec.groups, spec.group_outputs, -1)
    per_group = blocks // spec.groups * LANES
    padded = np.ones((spec.groups, per_group, spec.runs), np.uint8)
    padded[:, : spec.group_outputs] = split
    return padded.reshape(blocks, LANES, spec.runs).transpose(0, 2, 1).reshape(-1)


def _pack_steps(spec: LayerSpec, weights: Codes, shape: tuple[int, ...]) -> Codes:
    blocks, rows, columns, steps, _, step = shape
    merged = weights.reshape(spec.groups, spec.group_outputs, rows, columns, -1)
    per_group = blocks // spec.groups * LANES
    padded = np.zeros((spec.groups, per_group, rows, columns, steps * step), np.int8)
    padded[:, : merged.shape[1], :, :, : merged.shape[4]] = merged
    split = padded.reshape(blocks, LANES, rows, columns, steps, step)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1, 5))


def _pack_chunks(spec: LayerSpec, weights: Codes, shape: tuple[int, ...]) -> Codes:
    """Codes OHWI to ``[blocks, KH, KW, chunks, length, 16, 4]``, zeros where chunks overlap."""
    blocks, rows, columns, count, length = shape[:5]
    merged = weights.reshape(spec.out_channels, rows, columns, -1)
    chunks = Chunks.of(-(-merged.shape[3] // 4))
    padded = np.zeros((blocks * LANES, rows, columns, chunks.steps, 4), np.int8)
    padded.reshape(blocks * LANES, rows, columns, -1)[
        : spec.out_channels, :, :, : merged.shape[3]
    ] = merged
    zeros = np.zeros((*padded.shape[:3], chunks.shared, 4), np.int8)
    last = (count - 1) * length
    spread = np.concatenate([padded[:, :, :, :last], zeros, padded[:, :, :, last:]], 3)
    split = spread.reshape(blocks, LANES, rows, columns, count, length, 4)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 5, 1, 6))


def pack_depthwise(spec: LayerSpec, weights: Codes, shape: tuple[int, ...]) -> Packed:
    """Codes ``[C, KH, KW, 1]`` to ``[taps, C]``, two neighbouring taps in a byte for 4 bits."""
    taps = spec.kernel[0] * spec.kernel[1]
    padded = np.zeros((taps + taps % 2, shape[-1]), np.int8)
    padded[:taps, : spec.out_channels] = weights.reshape(spec.out_channels, taps).T
    return padded[:taps].copy() if spec.weight_bits == 8 else nibbles(padded[0::2], padded[1::2])


def pack_depthwise_dots(spec: LayerSpec, weights: Codes, shape: tuple[int, ...]) -> Packed:
    """Codes ``[C, KH, KW, 1]`` to ``[KH, groups, C, taps]``, zeros behind the last tap of a row."""
    rows, quads, channels = shape[:3]
    step = shape[3] if spec.weight_bits == 8 else 2 * shape[3]
    padded = np.zeros((channels, rows, quads * step), np.int8)
    padded[: spec.out_channels, :, : spec.kernel[1]] = weights[..., 0]
    packed = padded.reshape(channels, rows, quads, step).transpose(1, 2, 0, 3)
    if spec.weight_bits == 8:
        return np.ascontiguousarray(packed)
    return nibbles(packed[..., 0::2], packed[..., 1::2])
