"""Weights in the order in which the kernels of ARM read them, once at compile time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tvm_probq.kernels.arm.multipliers import multiplier_bytes
from tvm_probq.kernels.arm.unit import QUAD, VECTOR, WORD, ArmUnit
from tvm_probq.kernels.arm.view import Block, View, channel_blocks
from tvm_probq.kernels.codes import Codes, Packed, split_codes
from tvm_probq.kernels.planes import grouped, pack_planes, planes_of
from tvm_probq.kernels.spec import LayerSpec

SIGNED = 128  # codes of 8 bits are read less this
INT32_BYTES = 4


def chunk_bytes(spec: LayerSpec, length: int, quads: int) -> int:
    """Bytes of the weights of one chunk of `length` codes, of fewer than 8 bits in planes.

    Whole registers, of which a kernel reads nothing but these.
    """
    size, bits = length * quads * QUAD, spec.weight_bits
    return size if bits == 8 else grouped(size // VECTOR, bits) * planes_of(bits) * VECTOR


def tap_bytes(spec: LayerSpec, view: View, quads: int) -> int:
    """Bytes of the weights of a block of channels for one tap."""
    return sum(chunk_bytes(spec, length, quads) for _, length in view.chunks)


def block_bytes(spec: LayerSpec, view: View, quads: int) -> int:
    """Bytes of the weights of a block of channels, and of their multipliers behind them."""
    return view.steps * tap_bytes(spec, view, quads) + multiplier_bytes(spec, quads)


def header_bytes(spec: LayerSpec) -> int:
    """Bytes in front of the weights: what raw sums start from, as nothing else tells the kernel."""
    if spec.output != "int32":
        return 0
    return spec.groups * padded_channels(spec) * INT32_BYTES


def padded_channels(spec: LayerSpec) -> int:
    """Channels of a group, up to whole vectors."""
    return -(-spec.group_outputs // QUAD) * QUAD


def packed_bytes(spec: LayerSpec, view: View, quads: int) -> int:
    """Bytes of the kernel's argument W."""
    count, whole, left = channel_blocks(spec.group_outputs, quads)
    size = count * block_bytes(spec, view, whole.quads)
    size += block_bytes(spec, view, left.quads) if left else 0
    return header_bytes(spec) + spec.groups * size


def pack_dense(spec: LayerSpec, view: View, unit: ArmUnit, weights: Codes, quads: int) -> Packed:
    """Codes OHWI to groups > blocks of channels > taps > chunks, in the order of the products.

    Behind each block there are its multipliers ``[runs, channels]``, if the weights have any.
    """
    parts: list[npt.NDArray[np.uint8]] = [header(spec, weights, spec.groups, padded_channels(spec))]
    multipliers = np.zeros((spec.out_channels, 0), np.uint8)
    if spec.weight_group:
        weights, multipliers = split_codes(weights, spec.weight_group)
    runs = weights.reshape(spec.groups, spec.group_outputs, view.steps, -1)
    room = [(0, 0), (0, QUAD - 1), (0, 0), (0, view.padded - view.run)]
    padded = np.pad(runs, room)
    numbers = multipliers.reshape(spec.groups, spec.group_outputs, -1)
    numbers = np.pad(numbers, room[:3])
    for group, factors in zip(padded, numbers, strict=True):
        for first, block in blocks_in_turn(spec.group_outputs, quads):
            part = group[first : first + block.quads * QUAD]
            for tap in range(view.steps):
                parts += [
                    _chunk(spec, unit, part[:, tap, start : start + length])
                    for start, length in view.chunks
                ]
            parts.append(factors[first : first + block.quads * QUAD].T.reshape(-1))
    return as_packed(spec, parts)


def offset(spec: LayerSpec) -> int:
    """What codes are read less."""
    return 0 if spec.in_bits == WORD else SIGNED


def as_packed(spec: LayerSpec, parts: list[npt.NDArray[np.uint8]]) -> Packed:
    """Bytes as the kernel's argument W."""
    found = np.concatenate(parts)
    return found if spec.weight_bits < 8 else np.asarray(found.view(np.int8))


def blocks_in_turn(channels: int, quads: int) -> Iterator[tuple[int, Block]]:
    """Every block of channels with the first of them."""
    count, whole, left = channel_blocks(channels, quads)
    for i in range(count):
        yield i * whole.quads * QUAD, whole
    if left:
        yield count * whole.quads * QUAD, left


def header(
    spec: LayerSpec, weights: Codes, groups: int, channels: int
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """What raw sums start from, int32 ``[groups, channels]``.

    128 times the sum of each channel's weights, nothing where codes are read as they are.
    """
    if spec.output != "int32":
        return np.zeros(0, np.uint8)
    sums = np.zeros((groups, channels), np.int32)
    totals = weights.reshape(spec.out_channels, -1).sum(1, dtype=np.int32)
    sums[:, : spec.out_channels // groups] = offset(spec) * totals.reshape(groups, -1)
    return np.frombuffer(sums.astype("<i4").tobytes(), np.uint8)


def _chunk(spec: LayerSpec, unit: ArmUnit, codes: Codes) -> npt.NDArray[np.uint8]:
    """Codes ``[channels, length]`` as the registers of the products take them."""
    length = codes.shape[1]
    together = {"sdot": QUAD, "smmla": 2}.get(unit.instruction, 1)
    step = length if together == 1 else unit.grain
    split = codes.reshape(-1, together, length // step, step).transpose(2, 0, 1, 3)
    return as_bytes(spec, split.reshape(-1))


def as_bytes(spec: LayerSpec, codes: Codes) -> npt.NDArray[np.uint8]:
    """Codes of whole registers as bytes, of fewer than 8 bits in planes."""
    if spec.weight_bits == 8:
        return np.ascontiguousarray(codes).view(np.uint8)
    registers = codes.reshape(-1, VECTOR)
    return pack_planes(registers, spec.weight_bits).reshape(-1)
