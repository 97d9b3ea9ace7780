"""The entry point: a layer's specification and a target to a scheduled kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tvm

from tvm_probq.kernels.arguments import argument_shapes, bind_arguments
from tvm_probq.kernels.assembly import workspace
from tvm_probq.kernels.checks import check_spec
from tvm_probq.kernels.packing import check_codes, pack_conv, pack_depthwise, pack_depthwise_dots
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.x86.conv_schedule import schedule_conv
from tvm_probq.kernels.x86.conv_workload import conv_workload, packed_weights
from tvm_probq.kernels.x86.depthwise import (
    depthwise_weights,
    depthwise_workload,
    schedule_depthwise,
)
from tvm_probq.kernels.x86.depthwise_dot import dot_weights, dot_workload, schedule_dot
from tvm_probq.kernels.x86.geometry import VectorUnit, vector_unit
from tvm_probq.kernels.x86.tiles import Tile, default_tile, dots_fit
from tvm_probq.kernels.x86.traced import replay


def layer_kernel(spec: LayerSpec, target: tvm.target.Target, tile: Tile | None = None) -> Kernel:
    """The kernel of one layer.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        An x86 CPU.
    tile : Tile, optional
        Loop sizes; without them a fixed rule decides.

    Returns
    -------
    kernel : Kernel
        Its arguments are listed by `tvm_probq.kernels.arguments.argument_shapes`.

    Raises
    ------
    KernelError
        For a specification that no kernel can compute, or another architecture.
    """
    check_spec(spec)
    unit = vector_unit(spec, target)
    tile = tile or default_tile(spec, unit)
    if not spec.depthwise:
        work = conv_workload(spec, unit, tile)
        mod = replay(work, tile.trace) if tile.trace else schedule_conv(spec, unit, tile, work)
    elif dots_fit(spec, unit):
        mod = schedule_dot(spec, unit, tile, dot_workload(spec, unit, tile)).mod
    else:
        mod = schedule_depthwise(spec, tile, depthwise_workload(spec, tile)).mod
    wide, narrow = workspace(mod)
    arguments = argument_shapes(spec, _packed(spec, unit, tile))
    func = bind_arguments(mod["main"], [shape for _, shape, _ in arguments])
    func = func.without_attr("global_symbol").with_attr("tirx.is_scheduled", True)
    dots = not spec.depthwise or dots_fit(spec, unit)
    return Kernel(func, unit.instruction if dots else "", wide, narrow)


def pack_weights(
    spec: LayerSpec,
    weights: npt.NDArray[np.int8],
    target: tvm.target.Target,
    tile: Tile | None = None,
) -> npt.NDArray[np.int8] | npt.NDArray[np.uint8]:
    """Weight codes in the layout of the kernel's argument W.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    weights : ndarray of int8, shape [OC, KH, KW, IC / groups]
        The codes; -8..7 with ``spec.weight_bits == 4``.
    target : tvm.target.Target
        The target of the kernel.
    tile : Tile, optional
        The tile given to `layer_kernel`.

    Returns
    -------
    packed : ndarray of int8 or uint8
        Of the shape and dtype of `packed_shape`.

    Raises
    ------
    KernelError
        When the codes are not those of the layer.
    """
    check_spec(spec)
    check_codes(spec, weights)
    shape, _ = packed_shape(spec, target, tile)
    if not spec.depthwise:
        return pack_conv(spec, weights, shape)
    dots = dots_fit(spec, vector_unit(spec, target))
    return (pack_depthwise_dots if dots else pack_depthwise)(spec, weights, shape)


def packed_shape(
    spec: LayerSpec, target: tvm.target.Target, tile: Tile | None = None
) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the kernel's argument W.

    Parameters
    ----------
    spec, target, tile
        As for `pack_weights`.

    Returns
    -------
    shape : tuple of int
    dtype : str
        "int8", or "uint8" with two codes a byte.
    """
    unit = vector_unit(spec, target)
    return _packed(spec, unit, tile or default_tile(spec, unit))


def _packed(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> tuple[tuple[int, ...], str]:
    if not spec.depthwise:
        return packed_weights(spec, unit, tile)
    return dot_weights(spec, unit) if dots_fit(spec, unit) else depthwise_weights(spec)
