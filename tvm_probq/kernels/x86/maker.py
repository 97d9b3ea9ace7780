"""Kernels of layers for x86."""

from __future__ import annotations

import tvm

from tvm_probq.kernels.arguments import argument_shapes, bind_arguments
from tvm_probq.kernels.assembly import workspace
from tvm_probq.kernels.codes import Codes, Packed
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.conv_schedule import schedule_conv
from tvm_probq.kernels.x86.conv_workload import conv_workload
from tvm_probq.kernels.x86.depthwise import (
    depthwise_weights,
    depthwise_workload,
    schedule_depthwise,
)
from tvm_probq.kernels.x86.depthwise_dot import dot_weights, dot_workload, schedule_dot
from tvm_probq.kernels.x86.geometry import vector_unit
from tvm_probq.kernels.x86.halves import halved_tile
from tvm_probq.kernels.x86.packing import pack_conv, pack_depthwise, pack_depthwise_dots
from tvm_probq.kernels.x86.tiles import default_tile, dots_fit
from tvm_probq.kernels.x86.traced import replay
from tvm_probq.kernels.x86.unpacking import byte_shape, is_biased, packed_weights


class X86Maker:
    """`tvm_probq.kernels.maker.Maker` of an x86 CPU.

    Parameters
    ----------
    target : tvm.target.Target
        Its features decide the instructions.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.target = target

    def default_tile(self, spec: LayerSpec) -> Tile:
        """A sound tile without any search."""
        return default_tile(spec, vector_unit(spec, self.target))

    def kernel(self, spec: LayerSpec, tile: Tile) -> Kernel:
        """The kernel of a layer."""
        unit = vector_unit(spec, self.target)
        tile = halved_tile(spec, unit, tile)
        if not spec.depthwise:
            work = conv_workload(spec, unit, tile)
            mod = replay(work, tile.trace) if tile.trace else schedule_conv(spec, unit, tile, work)
        elif dots_fit(spec, unit):
            mod = schedule_dot(spec, unit, tile, dot_workload(spec, unit, tile)).mod
        else:
            mod = schedule_depthwise(spec, tile, depthwise_workload(spec, tile)).mod
        wide, narrow = workspace(mod)
        arguments = argument_shapes(spec, self.packed_shape(spec, tile))
        func = bind_arguments(mod["main"], [shape for _, shape, _ in arguments])
        func = func.without_attr("global_symbol").with_attr("tirx.is_scheduled", True)
        dots = not spec.depthwise or dots_fit(spec, unit)
        return Kernel(func, unit.instruction if dots else "", wide, narrow)

    def packed_shape(self, spec: LayerSpec, tile: Tile) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of its argument W."""
        unit = vector_unit(spec, self.target)
        if not spec.depthwise:
            return packed_weights(spec, unit, tile)
        return dot_weights(spec, unit) if dots_fit(spec, unit) else depthwise_weights(spec)

    def pack(self, spec: LayerSpec, weights: Codes, tile: Tile) -> Packed:
        """Codes in that shape."""
        unit = vector_unit(spec, self.target)
        if not spec.depthwise:
            return pack_conv(spec, weights, byte_shape(spec, unit, tile), is_biased(unit))
        shape, _ = self.packed_shape(spec, tile)
        dots = dots_fit(spec, unit)
        return (pack_depthwise_dots if dots else pack_depthwise)(spec, weights, shape)
