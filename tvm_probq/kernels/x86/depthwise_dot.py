"""Depthwise convolution by dot products: neighbouring pixels of each channel are interleaved.

One product then does four or two taps of a kernel row, where plain code needs a widening load and a
multiply-add for each.  The interleaved block stays in the first-level cache: it covers the rows of
one task, one vector of channels and a few column tiles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import s_tir, te

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.conv_schedule import hide_centre, place_vectors, store_padded
from tvm_probq.kernels.x86.conv_workload import Workload, output_stages
from tvm_probq.kernels.x86.depthwise import input_shape, padded_source, place_pad
from tvm_probq.kernels.x86.epilogue import Epilogue
from tvm_probq.kernels.x86.geometry import VectorUnit, channel_layout
from tvm_probq.kernels.x86.halves import place_residual, split_tasks, writes_halves
from tvm_probq.kernels.x86.intrinsics import dot_intrinsic, interleave_intrinsic
from tvm_probq.kernels.x86.tiles import DEPTHWISE_PARALLEL_MACS, quads


def dot_weights(spec: LayerSpec, unit: VectorUnit) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the packed weights: kernel rows, fours of taps, channels, taps."""
    outer = (spec.kernel[0], quads(spec, unit), channel_layout(spec).padded)
    if spec.weight_bits == 8:
        return (*outer, unit.step), "int8"
    return (*outer, unit.step // 2), "uint8"


def dot_workload(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> Workload:
    """The workload of the depthwise layer `spec` with blocks "pad", "quads" and "conv"."""
    channels = channel_layout(spec)
    epilogue = Epilogue(spec, channels)
    x = te.placeholder(input_shape(spec), "uint8", "X")
    weights = te.placeholder(*dot_weights(spec, unit), "W")
    total = _total(spec, unit, tile, _interleaved(spec, unit, tile, x, epilogue), weights)
    out_view = (spec.batch, spec.out_height, spec.out_width, 1, spec.out_channels)
    out = output_stages(total, epilogue, out_view)
    func = te.create_prim_func([x, weights, *epilogue.arguments, out])
    return Workload(func, True, channels, tuple(epilogue.vectors))


def _apart(spec: LayerSpec, unit: VectorUnit) -> int:
    """Interleaved columns between two groups of taps."""
    return unit.step // spec.strides[1] if quads(spec, unit) > 1 else 0


def _interleaved(
    spec: LayerSpec, unit: VectorUnit, tile: Tile, x: te.Tensor, epilogue: Epilogue
) -> te.Tensor:
    """Four pixels of each channel side by side, ``[N, block.., rows, pixels, lanes, 4]``.

    The blocks of rows and columns are axes of their own: neighbours overlap by the height of the
    kernel, and TVM cannot tensorize a block with overlapping iterations.
    """
    step, lanes = spec.strides[1], epilogue.channels.vector
    columns = tile.columns * tile.column_tiles
    row_blocks, column_blocks = spec.out_height // tile.rows, -(-spec.out_width // columns)
    beyond = (quads(spec, unit) - 1) * _apart(spec, unit)
    last = (column_blocks * columns + beyond - 1) * step
    source = padded_source(spec, x, epilogue, last + unit.step)

    def value(n: Any, hb: Any, wb: Any, o: Any, h: Any, p: Any, c: Any, i: Any) -> Any:
        row = hb * tile.rows * spec.strides[0] + h
        code = source[n, row, (wb * columns + p) * step + i, o * lanes + c]
        return code.astype("int16") if unit.wide else code

    rows = (tile.rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    outer = (spec.batch, row_blocks, column_blocks, epilogue.channels.padded // lanes)
    return te.compute((*outer, rows, columns + beyond, lanes, unit.step), value, name="quads")


def _total(
    spec: LayerSpec, unit: VectorUnit, tile: Tile, fours: te.Tensor, weights: te.Tensor
) -> te.Tensor:
    """The exact integer sums, ``[N, 1, vectors, rows, columns, lanes]``."""
    kh = te.reduce_axis((0, spec.kernel[0]), "kh")
    kq, ki = te.reduce_axis((0, quads(spec, unit)), "kq"), te.reduce_axis((0, unit.step), "ki")
    blocks, lanes = int(fours.shape[3]), int(fours.shape[6])
    columns = tile.columns * tile.column_tiles

    def weight(c: Any) -> Any:
        if spec.weight_bits == 8:
            return weights[kh, kq, c, ki].astype("int32")
        shift = (ki % 2 * 4).astype("uint8")
        nibble = (weights[kh, kq, c, ki // 2] >> shift) & te.const(15, "uint8")
        return nibble.astype("int32") - 8

    def product(n: Any, _g: Any, o: Any, h: Any, w: Any, c: Any) -> Any:
        row = h % tile.rows * spec.strides[0] + kh * spec.dilation[0]
        pixel = w % columns + kq * _apart(spec, unit)
        code = fours[n, h // tile.rows, w // columns, o, row, pixel, c, ki].astype("int32")
        return te.sum(code * weight(o * lanes + c), [kh, kq, ki])

    shape = (spec.batch, 1, blocks, spec.out_height, spec.out_width, lanes)
    return te.compute(shape, product, name="conv")


def schedule_dot(spec: LayerSpec, unit: VectorUnit, tile: Tile, work: Workload) -> s_tir.Schedule:
    """Row blocks > channel vectors > column blocks > rows > column tiles; every tap unrolled."""
    sch = s_tir.Schedule(work.func)
    value, conv, fours = (sch.get_sblock(name) for name in ("value", "conv", "quads"))
    if work.vectors:
        sch.fuse_reduction_epilogue(conv, sch.get_sblock("centred"))
    packing = writes_halves(spec)
    outer = split_tasks(sch, tile.rows, spec.out_width) if packing else None
    loops = sch.get_loops(value)[-5:]
    n, h, w, g, c = loops if work.channels.exact else (loops[i] for i in (0, 2, 3, 1, 4))
    rb, h = sch.split(h, [None, tile.rows])
    wo, wi = sch.split(w, [None, tile.columns])
    wb, wo = sch.split(wo, [None, tile.column_tiles])
    co, cv = sch.split(c, [None, work.channels.vector])
    cg, co = sch.split(co, [tile.channel_tasks, None])
    sch.reorder(n, rb, g, cg, co, wb, h, wo, wi, cv)
    task = sch.fuse(n, rb, g, cg)
    if spec.macs >= DEPTHWISE_PARALLEL_MACS:
        sch.parallel(outer if packing else task)
    sch.annotate(wo, "pragma_loop_partition_hint", 1)
    sch.compute_at(conv, wo, preserve_unit_loops=True)
    if not work.channels.exact:
        store_padded(sch, spec, work, wo)
    place_vectors(sch, work, co)
    sch.compute_at(fours, wb, preserve_unit_loops=True)
    place_pad(sch, spec, tile, work, task)
    place_residual(sch, spec, task)
    sch.tensorize(sch.get_loops(fours)[-2], interleave_intrinsic(unit, work.channels.vector))
    _taps(sch, spec, unit, work, conv)
    sch.unroll(wi)
    sch.vectorize(cv)
    return sch


def _taps(
    sch: s_tir.Schedule, spec: LayerSpec, unit: VectorUnit, work: Workload, conv: Any
) -> None:
    o, h, w, c, kh, kq, ki = sch.get_loops(conv)[-7:]
    sch.reorder(o, h, kh, kq, w, c, ki)
    for loop in (kh, kq, w):
        sch.unroll(loop)
    init = sch.decompose_reduction(conv, kh)
    hide_centre(sch, conv)
    sch.blockize(c)
    lanes = min(unit.lanes, work.channels.vector)
    register, c = sch.split(c, [None, lanes])
    sch.unroll(register)
    sch.tensorize(c, dot_intrinsic(replace(unit, lanes=lanes), spec.weight_bits, depthwise=True))
    sch.unroll(sch.get_loops(init)[-2])
    sch.vectorize(sch.get_loops(init)[-1])
