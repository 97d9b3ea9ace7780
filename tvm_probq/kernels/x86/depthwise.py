"""Depthwise convolution: no sum over channels, so the vector lanes are the channels.

All taps are unrolled, so that the compiler sees a straight line of multiply-adds, and the padded
rows of one task are kept in a tile-local block.
"""

from __future__ import annotations

import math
from typing import Any

from tvm import s_tir, te, tirx

from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype, codes_shape
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.conv_schedule import hide_centre, place_vectors, store_padded
from tvm_probq.kernels.x86.conv_workload import Workload, output_stages
from tvm_probq.kernels.x86.epilogue import Epilogue
from tvm_probq.kernels.x86.geometry import Channels, channel_layout
from tvm_probq.kernels.x86.halves import (
    half_of,
    place_residual,
    split_halves,
    split_tasks,
    writes_halves,
)
from tvm_probq.kernels.x86.tiles import DEPTHWISE_PARALLEL_MACS


def depthwise_weights(spec: LayerSpec) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the packed weights: taps, channels; for 4 bits two taps in a byte."""
    taps, channels = spec.kernel[0] * spec.kernel[1], channel_layout(spec).padded
    return (
        ((taps, channels), "int8")
        if spec.weight_bits == 8
        else ((-(-taps // 2), channels), "uint8")
    )


def depthwise_workload(spec: LayerSpec, tile: Tile) -> Workload:
    """The workload of the depthwise layer `spec`, over the same views as a convolution."""
    channels = channel_layout(spec)
    epilogue = Epilogue(spec, channels)
    shape = input_shape(spec)
    x = te.placeholder(shape, codes_dtype(spec.in_bits), "X")
    weights = te.placeholder(*depthwise_weights(spec), "W")
    direct = channels.exact and not any(spec.pads) and spec.in_bits != HALF
    columns = -(-spec.out_width // tile.columns) * tile.columns
    width = (columns - 1) * spec.strides[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1
    source = x if direct else padded_source(spec, x, epilogue, width)
    total = _total(spec, channels, source, weights)
    out_view = (spec.batch, spec.out_height, spec.out_width, 1, spec.out_channels)
    out = output_stages(total, epilogue, out_view)
    arguments = [x, weights, *epilogue.arguments, out]
    return Workload(te.create_prim_func(arguments), not direct, channels, tuple(epilogue.vectors))


def input_shape(spec: LayerSpec) -> tuple[int, ...]:
    """Shape of X."""
    shape = (spec.batch, spec.height, spec.width, spec.in_channels)
    return codes_shape(shape, spec.in_bits)


def padded_source(spec: LayerSpec, x: te.Tensor, epilogue: Epilogue, width: int) -> te.Tensor:
    """The padded rows of X, `width` columns and whole vectors of channels wide."""
    reach = (spec.kernel[0] - 1) * spec.dilation[0]
    rows = (spec.out_height - 1) * spec.strides[0] + reach + 1
    top, left = spec.pads[:2]
    layout = epilogue.channels

    def value(n: Any, h: Any, w: Any, c: Any) -> Any:
        zero = epilogue.zero_code(n, c if spec.in_ranges == 1 else tirx.min(c, layout.real - 1))
        inside = [w >= left, w < spec.width + left]
        if not layout.exact:
            inside.append(c // layout.lanes * layout.lanes < layout.real)
        at = (n, h - top, w - left)
        half = spec.in_bits == HALF
        code = half_of(x, at, 0, c, spec.in_channels) if half else x[*at, c]
        code = tirx.if_then_else(tirx.all(*inside), code, zero)
        return tirx.if_then_else(tirx.all(h >= top, h < spec.height + top), code, zero)

    return te.compute((spec.batch, rows, width, layout.padded), value, name="pad")


def place_pad(
    sch: s_tir.Schedule, spec: LayerSpec, tile: Tile, work: Workload, task: Any
) -> None:  # fmt: skip
    """Pad the rows of one task at its start, the border and the inside apart."""
    pad = sch.get_sblock("pad")
    sch.compute_at(pad, task, preserve_unit_loops=True)
    column, channel = sch.get_loops(pad)[-2:]
    sch.annotate(column, "pragma_loop_partition_hint", 1)
    if spec.in_bits == HALF:
        split_halves(sch, channel, spec.in_channels)
        return
    lanes = math.gcd(work.channels.padded // tile.channel_tasks, 64)
    sch.vectorize(sch.split(channel, [None, lanes])[1])


def _total(spec: LayerSpec, channels: Channels, source: te.Tensor, weights: te.Tensor) -> te.Tensor:
    """The exact integer sums, ``[N, 1, 1, rows, columns, C]``."""
    kh, kw = (
        te.reduce_axis((0, n), name) for n, name in zip(spec.kernel, ("kh", "kw"), strict=True)
    )
    tap = kh * spec.kernel[1] + kw

    def weight(c: Any) -> Any:
        if spec.weight_bits == 8:
            return weights[tap, c].astype("int32")
        shift = (tap % 2 * 4).astype("uint8")
        return ((weights[tap // 2, c] >> shift) & tirx.const(15, "uint8")).astype("int32") - 8

    def product(n: Any, _g: Any, _o: Any, h: Any, w: Any, c: Any) -> Any:
        row = h * spec.strides[0] + kh * spec.dilation[0]
        column = w * spec.strides[1] + kw * spec.dilation[1]
        return te.sum(source[n, row, column, c].astype("int32") * weight(c), [kh, kw])

    shape = (spec.batch, 1, 1, spec.out_height, spec.out_width, channels.padded)
    return te.compute(shape, product, name="conv")


def schedule_depthwise(spec: LayerSpec, tile: Tile, work: Workload) -> s_tir.Schedule:
    """Row blocks, channel vectors, column tiles; every tap unrolled."""
    sch = s_tir.Schedule(work.func)
    value, conv = sch.get_sblock("value"), sch.get_sblock("conv")
    if work.vectors:
        sch.fuse_reduction_epilogue(conv, sch.get_sblock("centred"))
    packing = writes_halves(spec)
    outer = split_tasks(sch, tile.rows, spec.out_width) if packing else None
    loops = sch.get_loops(value)[-5:]
    n, h, w, g, c = loops if work.channels.exact else (loops[i] for i in (0, 2, 3, 1, 4))
    rb, h = sch.split(h, [None, tile.rows])
    wo, wi = sch.split(w, [None, tile.columns])
    co, cv = sch.split(c, [None, work.channels.vector])
    cg, co = sch.split(co, [tile.channel_tasks, None])
    sch.reorder(n, rb, g, cg, h, co, wo, wi, cv)
    task = sch.fuse(n, rb, g, cg)
    if spec.macs >= DEPTHWISE_PARALLEL_MACS:
        sch.parallel(outer if packing else task)
    sch.annotate(wo, "pragma_loop_partition_hint", 1)
    sch.compute_at(conv, wo, preserve_unit_loops=True)
    if not work.channels.exact:
        store_padded(sch, spec, work, wo)
    place_vectors(sch, work, task)
    if work.padded:
        place_pad(sch, spec, tile, work, task)
    place_residual(sch, spec, task)
    _taps(sch, conv)
    sch.unroll(wi)
    sch.vectorize(cv)
    return sch


def _taps(sch: s_tir.Schedule, conv: Any) -> None:
    h, w, c, kh, kw = sch.get_loops(conv)[-5:]
    sch.reorder(h, kh, kw, w, c)
    for loop in (kh, kw, w):
        sch.unroll(loop)
    sch.vectorize(c)
    init = sch.decompose_reduction(conv, kh)
    hide_centre(sch, conv)
    sch.unroll(sch.get_loops(init)[-2])
    sch.vectorize(sch.get_loops(init)[-1])
