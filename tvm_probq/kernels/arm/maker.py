"""Kernels of layers for 64-bit ARM."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arguments import argument_shapes
from tvm_probq.kernels.arm.dense import Dense
from tvm_probq.kernels.arm.depthwise import Depthwise
from tvm_probq.kernels.arm.depthwise_packing import depthwise_bytes, pack_depthwise
from tvm_probq.kernels.arm.halves import halved_tile
from tvm_probq.kernels.arm.packing import pack_dense, packed_bytes
from tvm_probq.kernels.arm.tiles import check_tile, default_tile, depthwise_tile
from tvm_probq.kernels.arm.unit import arm_unit
from tvm_probq.kernels.arm.view import mnemonic, view_of
from tvm_probq.kernels.assembly import workspace
from tvm_probq.kernels.codes import Codes, Packed
from tvm_probq.kernels.small.emit import Argument, build_kernel
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile


class ArmMaker:
    """`tvm_probq.kernels.maker.Maker` of a 64-bit ARM CPU.

    Parameters
    ----------
    target : tvm.target.Target
        Its features decide the instructions.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.target = target

    def default_tile(self, spec: LayerSpec) -> Tile:
        """A sound tile without any search."""
        unit = arm_unit(spec, self.target)
        layout = view_of(spec, unit)
        if spec.depthwise:
            return depthwise_tile(spec, layout)
        return default_tile(spec, layout, unit)

    def kernel(self, spec: LayerSpec, tile: Tile) -> Kernel:
        """The kernel of a layer."""
        if tile.trace:
            raise KernelError(
                "a schedule of MetaSchedule is for x86", where=str(spec),
                why="kernels for ARM are not made by schedules", fix="tune with --space template",
            )  # fmt: skip
        unit = arm_unit(spec, self.target)
        layout = view_of(spec, unit)
        check_tile(spec, layout, tile)
        tile = halved_tile(spec, layout, tile)
        arguments = [Argument(*a) for a in argument_shapes(spec, self.packed_shape(spec, tile))]
        statements = Depthwise if spec.depthwise else Dense

        def body(sample: Any, *buffers: Any) -> None:
            named = dict(zip([a.name for a in arguments], buffers, strict=True))
            statements(spec, layout, unit, tile, named, sample).emit()

        func = build_kernel("layer", arguments, spec.batch, body)
        return Kernel(func, mnemonic(spec, layout, unit), *workspace(func))

    def packed_shape(self, spec: LayerSpec, tile: Tile) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of its argument W."""
        dtype = "int8" if spec.weight_bits == 8 else "uint8"
        if spec.depthwise:
            return (depthwise_bytes(spec),), dtype
        layout = view_of(spec, arm_unit(spec, self.target))
        return (packed_bytes(spec, layout, tile.blocks),), dtype

    def pack(self, spec: LayerSpec, weights: Codes, tile: Tile) -> Packed:
        """Codes in that shape."""
        if spec.depthwise:
            return pack_depthwise(spec, weights)
        unit = arm_unit(spec, self.target)
        return pack_dense(spec, view_of(spec, unit), unit, weights, tile.blocks)
