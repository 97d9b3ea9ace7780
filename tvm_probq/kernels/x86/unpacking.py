"""Weights of fewer than 8 bits: how they are stored, and their way back to bytes in a kernel.

Where several register tiles read the weights of a channel block, they are unpacked for all of them
into scratch, and the products are those of 8-bit weights.  Where only one does, as in a fully
connected layer, a few registers are unpacked at a time, on the way to the products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx

from tvm_probq.kernels.planes import BYTE, GROUPS, HALF, PART, grouped, planes_of
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx_shape import Chunks
from tvm_probq.kernels.x86.geometry import LANES, WORD, VectorUnit, geometry
from tvm_probq.kernels.x86.multipliers import repeated_multipliers
from tvm_probq.kernels.x86.tiles import channel_blocks

UNPACK = "unpack"  # the block
PLANES = planes_of(6)


def byte_shape(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> tuple[int, ...]:
    """Shape of the weights, a byte each: blocks of 16 channels, kernel, steps, lanes, bytes."""
    kernel_rows, kernel_columns, steps = geometry(spec, unit).reduction
    blocks = spec.groups * channel_blocks(spec.group_outputs, tile.blocks)
    if unit.tiles:
        chunks = Chunks.of(steps)
        return blocks, kernel_rows, kernel_columns, chunks.count, chunks.length, LANES, unit.step
    return blocks, kernel_rows, kernel_columns, steps, LANES, unit.step


def packed_weights(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the kernel's argument W: bytes, or blocks, groups, planes, bytes.

    With multipliers it is flat: behind all planes come those of each block, runs and lanes.
    """
    shape = byte_shape(spec, unit, tile)
    if spec.weight_bits == BYTE:
        return shape, "int8"
    planes = plane_shape(shape, spec.weight_bits)
    if spec.weight_group:
        return (math.prod(planes) + shape[0] * spec.runs * LANES,), "uint8"
    return planes, "uint8"


def plane_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Blocks, groups, planes, bytes of weights of the `byte_shape` `shape`."""
    return shape[0], grouped(math.prod(shape[1:-2]), bits), planes_of(bits), LANES * shape[-1]


def unpacks_on_the_way(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> bool:
    """Whether weights are unpacked for each register tile: there is one, of whole groups."""
    if spec.weight_bits == BYTE or unit.tiles or tile.rows * tile.column_tiles > 1:
        return False
    if spec.weight_group:
        return adds_runs(spec)
    return geometry(spec, unit).reduction[2] % GROUPS[spec.weight_bits] == 0


def adds_runs(spec: LayerSpec) -> bool:
    """Whether whole runs of equal length can be summed up, and their sums multiplied."""
    plain = spec.pointwise and spec.groups == 1 and spec.weight_group > 0
    return plain and spec.group_inputs % spec.weight_group == 0


@dataclass(frozen=True)
class Weights:
    """Weights of a byte, the argument itself or what is unpacked of it.

    Attributes
    ----------
    tensor : te.Tensor
        int8 of the shape, or the block `UNPACK`.
    shape : tuple of int
        See `byte_shape`.
    """

    tensor: te.Tensor
    shape: tuple[int, ...]

    @staticmethod
    def of(spec: LayerSpec, unit: VectorUnit, tile: Tile, argument: te.Tensor) -> Weights:
        """The weights that the kernel's argument holds."""
        shape = byte_shape(spec, unit, tile)
        if spec.weight_bits < BYTE:
            planes = plane_shape(shape, spec.weight_bits)
            scaled = scaled_bits(spec, unit, tile) > 0
            multiplied = spec.weight_group and not unpacks_on_the_way(spec, unit, tile)
            times = repeated_multipliers(spec, unit, shape, argument) if multiplied else None
            argument = unpacked(argument, planes, spec.weight_bits, unit, scaled, times)
        return Weights(argument, shape)

    def at(self, block: Any, *indices: Any) -> Any:
        """The weight, int32, at indices of the shape."""
        *outer, lane, ki = indices
        if self.tensor.ndim == len(self.shape):
            return self.tensor[block, *indices].astype("int32")
        number, group = 0, int(self.tensor.shape[2])
        for extent, index in zip(self.shape[1:-2], outer, strict=True):
            number = number * extent + index
        return self.tensor[block, number // group, number % group, lane, ki].astype("int32")


def unpacks_ahead(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> bool:
    """Whether weights are unpacked for all register tiles of a channel block."""
    return spec.weight_bits < BYTE and not unpacks_on_the_way(spec, unit, tile)


def is_biased(unit: VectorUnit) -> bool:
    """Whether stored codes are larger by half their range: where they cannot be `scaled_bits`."""
    return unit.instruction == "vpmaddubsw"


def scaled_bits(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> int:
    """Bits by which sums are too large, as codes are left in the upper bits of their bytes.

    That saves instructions, which pays where weights are unpacked for each register tile; two
    products of such codes exceed the 16 bits of VPMADDUBSW, and sums of those with 16-bit
    activations may exceed int32.
    """
    fits = not is_biased(unit) and spec.in_bits < WORD and unpacks_on_the_way(spec, unit, tile)
    return BYTE - spec.weight_bits if fits else 0


def unpacked(
    weights: te.Tensor, planes: tuple[int, ...], bits: int, unit: VectorUnit, scaled: bool,
    times: Callable[..., Any] | None = None,
) -> te.Tensor:  # fmt: skip
    """A block int8 ``[blocks, groups, registers, lanes, step]`` of the codes in `weights`.

    They are in the upper bits of their bytes if they are `scaled`; they are multiplied by what
    `times` gives of a block, a register of it, a lane and a byte.
    """
    step, sign = unit.step, _byte(1 << bits - 1)

    def value(o: Any, g: Any, register: Any, lane: Any, ki: Any) -> Any:
        def plane(number: Any) -> Any:
            at = (o, g, number, lane * step + ki)
            return weights[at] if weights.ndim == len(at) else weights[_flat(at, planes)]

        code = _code(plane, bits, register)
        if scaled:
            return code.astype("int8")
        code = code >> _byte(BYTE - bits)
        code = code if is_biased(unit) else code ^ sign
        code = code.astype("int8") - sign.astype("int8")
        return code if times is None else code * times(o, g * GROUPS[bits] + register, lane, ki)

    shape = (*planes[:2], GROUPS[bits], LANES, step)
    return te.compute(shape, value, name=UNPACK)


def _flat(at: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    found: Any = 0
    for index, extent in zip(at, shape, strict=True):
        found = found * extent + index
    return found


def _code(plane: Any, bits: int, register: Any) -> Any:
    """A register's code in the upper bits of a byte, uint8."""
    if bits in (HALF, PART):
        shift = (BYTE - bits * (register + 1)).astype("uint8")
        return (plane(0) << shift) & _byte(256 - (1 << BYTE - bits))
    last = _byte(0)
    for i in range(PLANES):
        last = last | ((plane(i) & _byte(3)) << _byte(BYTE - PART * (i + 1)))
    own = plane(tirx.min(register, PLANES - 1)) & _byte(0xFC)
    return tirx.if_then_else(register < PLANES, own, last)


def _byte(value: int) -> Any:
    return tirx.const(value, "uint8")


def place_unpacking(sch: s_tir.Schedule, unit: VectorUnit, loop: Any) -> None:
    """Unpack in every iteration of `loop` what it reads."""
    block = sch.get_sblock(UNPACK)
    sch.compute_at(block, loop, preserve_unit_loops=True)
    register, lane, ki = sch.get_loops(block)[-3:]
    sch.unroll(register)
    vectors, vector = sch.split(sch.fuse(lane, ki), [None, unit.lanes * unit.step])
    sch.unroll(vectors)
    sch.vectorize(vector)
