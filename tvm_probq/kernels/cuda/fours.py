"""Layers of 4-bit codes and weights on tensor cores for such numbers: two of each in a byte.

To the device code they are layers of half as many input channels.  Source: PTX ISA, mma.m16n8k64
with .u4 and .s4; devices from sm_90 on have no such tensor cores.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tvm_probq.kernels.codes import Codes, Packed
from tvm_probq.kernels.cuda.packing import CHUNK
from tvm_probq.kernels.cuda.tiles import by_vectors
from tvm_probq.kernels.cuda.unit import CudaUnit
from tvm_probq.kernels.spec import LayerSpec

INSTRUCTION = "mma.u4.s4"
BITS = 4


def by_fours(spec: LayerSpec, unit: CudaUnit) -> bool:
    """Whether a layer is made so."""
    narrow = spec.in_bits == BITS and spec.weight_bits <= BITS
    narrow = narrow and spec.groups == 1 and not spec.weight_group
    return narrow and not by_vectors(spec) and unit.has_fours and unit.tensor(halved(spec))


def halved(spec: LayerSpec) -> LayerSpec:
    """The layer of bytes that the device code sees."""
    return replace(spec, in_channels=spec.in_channels // 2, in_bits=8, weight_bits=8)


def packed_fours_shape(spec: LayerSpec) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of packed weights: ``[OC, taps * inputs / 2]`` in whole chunks."""
    size = spec.kernel[0] * spec.kernel[1] * spec.in_channels // 2
    return (spec.out_channels, -(-size // CHUNK) * CHUNK), "uint8"


def pack_fours(spec: LayerSpec, weights: Codes) -> Packed:
    """Codes ``[OC, KH, KW, IC]`` in that shape, their halves as in `tvm_probq.kernels.storage`."""
    (rows, size), _ = packed_fours_shape(spec)
    nibbles = weights.astype(np.uint8) & np.uint8(15)
    low, high = np.split(nibbles, 2, axis=3)
    joined = (low | high << np.uint8(BITS)).reshape(rows, -1)
    return np.pad(joined, ((0, 0), (0, size - joined.shape[1])))
