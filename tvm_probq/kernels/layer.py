"""The entry point: a layer's specification and a target to a scheduled kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arguments import argument_shapes, bind_arguments
from tvm_probq.kernels.assembly import workspace
from tvm_probq.kernels.packing import pack_conv, pack_depthwise
from tvm_probq.kernels.spec import Kernel, LayerSpec, check_spec
from tvm_probq.kernels.x86.conv_schedule import schedule_conv
from tvm_probq.kernels.x86.conv_workload import conv_workload, packed_weights
from tvm_probq.kernels.x86.tiles import Tile, default_tile, vector_unit


def layer_kernel(
    spec: LayerSpec, target: tvm.target.Target, tile: Tile | None = None
) -> Kernel:
    unit = vector_unit(target)
    tile = tile or default_tile(spec, unit)
    work = conv_workload(spec, unit, tile)
    sch = schedule_conv(spec, unit, tile, work)
    func = sch.mod["main"]
    wide, narrow = workspace(sch.mod)
    shapes = [s for _, s, _ in argument_shapes(spec, packed_weights(spec, unit, tile))]
    func = bind_arguments(func, shapes)
    func = func.without_attr("global_symbol").with_attr("tirx.is_scheduled", True)
    return Kernel(func, unit.instruction, wide, narrow)


def pack_weights(
    spec: LayerSpec, weights: npt.NDArray[np.int8], target: tvm.target.Target, tile: Tile | None = None
) -> npt.NDArray[np.int8] | npt.NDArray[np.uint8]:
    unit = vector_unit(target)
    return pack_conv(spec, weights, packed_weights(spec, unit, tile or default_tile(spec, unit))[0])


def packed_shape(spec: LayerSpec, target: tvm.target.Target) -> tuple[tuple[int, ...], str]:
    unit = vector_unit(target)
    return packed_weights(spec, unit, default_tile(spec, unit))
