"""The schedule of a convolution: row blocks, channel blocks, column tiles, a register tile."""

from __future__ import annotations

from typing import Any

from tvm import s_tir
from tvm.ir import IRModule

from tvm_probq.errors import KernelError
from tvm_probq.kernels.planes import BYTE, GROUPS, HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx import LOOPS, TASK, Cut, use_tiles
from tvm_probq.kernels.x86.amx_shape import MOST_BLOCKS, ROW_BYTES
from tvm_probq.kernels.x86.conv_workload import Workload
from tvm_probq.kernels.x86.geometry import LANES, Geometry, VectorUnit, geometry
from tvm_probq.kernels.x86.halves import (
    place_residual,
    split_halves,
    split_tasks,
    writes_halves,
)
from tvm_probq.kernels.x86.intrinsics import dot_intrinsic
from tvm_probq.kernels.x86.multipliers import place_multipliers
from tvm_probq.kernels.x86.narrow import pack_codes
from tvm_probq.kernels.x86.run_sums import RUN
from tvm_probq.kernels.x86.tiles import PARALLEL_MACS
from tvm_probq.kernels.x86.unpacking import (
    place_unpacking,
    unpacks_ahead,
    unpacks_on_the_way,
)


def schedule_conv(spec: LayerSpec, unit: VectorUnit, tile: Tile, work: Workload) -> IRModule:
    """Schedule `work` with the loop sizes of `tile`.

    The order is task (sample, row block, column block, channel task) > channel block > row >
    column tile > reduction > register tile; nothing of full size is left between the stages.
    """
    if unit.tiles:
        check_whole_tiles(spec, geometry(spec, unit), tile)
    sch = s_tir.Schedule(work.func)
    value, conv = sch.get_sblock("value"), sch.get_sblock("conv")
    place_centre(sch, unit, work)
    packing = writes_halves(spec)
    outer = split_tasks(sch, tile.rows, tile.columns * tile.column_tiles) if packing else None
    loops = sch.get_loops(value)[-5:]
    n, h, w, g, c = loops if work.channels.exact else (loops[i] for i in (0, 2, 3, 1, 4))
    co, cn, cv = sch.split(c, [None, tile.blocks, LANES])
    wo, wi = sch.split(w, [None, tile.columns])
    wb, wo = sch.split(wo, [None, tile.column_tiles])
    rb, h = sch.split(h, [None, tile.rows])
    h, hi = sch.split(h, [None, tile.tile_rows])
    cg, co = sch.split(co, [tile.channel_tasks, None])
    sch.reorder(n, rb, wb, g, cg, co, h, wo, hi, wi, cn, cv)
    task = sch.fuse(n, rb, wb, g, cg) if spec.groups == 1 else sch.fuse(n, rb, wb)
    if spec.macs >= PARALLEL_MACS:
        sch.parallel(outer if packing else task)
    if not unit.tiles:  # whose tiles are whole
        sch.annotate(wo, "pragma_loop_partition_hint", 1)
    if work.packed:
        wi, wp = sch.split(wi, [None, work.packed])
        place_codes(sch, wi, task)
    sch.compute_at(conv, wo, preserve_unit_loops=True)
    if work.runs:
        place_runs(sch, conv)
    if not work.channels.exact:
        store_padded(sch, spec, work, wo)
    place_vectors(sch, work, co)
    if unpacks_ahead(spec, unit, tile):
        place_unpacking(sch, unit, co)
        if spec.weight_group:
            place_multipliers(sch, co)
    if work.padded:
        place_pad(sch, spec, geometry(spec, unit), task)
    place_residual(sch, spec, task)
    if work.packed:
        sch.fuse(cn, cv)
        sch.blockize(wp)
    else:
        sch.vectorize(cv)
        sch.unroll(cn)
    if unit.tiles:
        sch.blockize(sch.get_loops(conv)[-len(LOOPS)])
        sch.annotate(task, TASK, 1)
        view, unpacked = geometry(spec, unit), spec.weight_bits < BYTE
        cut = Cut.of(view, tile.tile_rows, tile.columns, tile.blocks, unpacked)
        func = use_tiles(sch.mod["main"], cut)
    else:
        inner = _inner_unpacking if unpacks_on_the_way(spec, unit, tile) else _inner
        inner(sch, spec, unit, conv)
        sch.unroll(wi)
        func = sch.mod["main"]
    return IRModule({"main": pack_codes(func, work.packed) if work.packed else func})


def place_pad(sch: s_tir.Schedule, spec: LayerSpec, view: Geometry, task: Any) -> None:
    """Copy the input of a task at its start."""
    block = sch.get_sblock("pad")
    sch.compute_at(block, task, preserve_unit_loops=True)
    last = sch.get_loops(block)[-1]
    if spec.in_bits == HALF:
        position = split_halves(sch, last, spec.in_channels)
        sch.annotate(position, "pragma_loop_partition_hint", 1)
    elif view.gathered:
        sch.vectorize(sch.split(last, [None, ROW_BYTES])[1])
    else:
        sch.annotate(last, "pragma_loop_partition_hint", 1)


def check_whole_tiles(spec: LayerSpec, view: Geometry, tile: Tile) -> None:
    """Raise `KernelError` unless register tiles of AMX fit, and cover the output whole."""
    if tile.blocks > MOST_BLOCKS:
        raise KernelError(
            "the register tile is too wide for tile registers",
            where=str(spec),
            why=f"{tile.blocks} channel blocks leave no register for sums and inputs",
            fix=f"choose at most {MOST_BLOCKS} blocks",
        )
    if view.columns % tile.columns or view.rows % tile.rows or tile.rows % tile.tile_rows:
        raise KernelError(
            "tile registers need whole tiles",
            where=str(spec),
            why=f"{view.rows} x {view.columns} positions are no multiple of "
            f"{tile.tile_rows} x {tile.columns}",
            fix="choose rows and columns that divide them",
        )


def place_centre(sch: s_tir.Schedule, unit: VectorUnit, work: Workload) -> None:
    """Let sums start with the zero-point's share, or add it where they are read."""
    if work.scaled:
        sch.compute_inline(sch.get_sblock("descaled"))
    if work.vectors and (unit.tiles or work.scaled):
        sch.compute_inline(sch.get_sblock("centred"))  # tiles start quicker with zeros
    elif work.vectors:
        sch.fuse_reduction_epilogue(sch.get_sblock("conv"), sch.get_sblock("centred"))


def place_codes(sch: s_tir.Schedule, loop: Any, task: Any) -> None:
    """Compute the int32 codes that are packed together in every iteration of `loop`."""
    codes = sch.get_sblock("codes")
    sch.compute_at(codes, loop, preserve_unit_loops=True)
    column, _, channel = sch.get_loops(codes)[-3:]
    block, lane = sch.split(channel, [None, LANES])
    for each in (column, block):
        sch.unroll(each)
    sch.vectorize(lane)
    sch.compute_at(sch.get_sblock("floor"), task, preserve_unit_loops=True)


def place_runs(sch: s_tir.Schedule, conv: Any) -> None:
    """Sum up one run of inputs after the other, for all sums of a register tile."""
    g, o, h, w, lane, run = sch.get_loops(conv)[-6:]
    sch.reorder(g, h, run, w, o, lane)
    sch.compute_at(sch.get_sblock(RUN), run, preserve_unit_loops=True)


def place_vectors(sch: s_tir.Schedule, work: Workload, loop: Any) -> None:
    """Compute the per-channel vectors of the epilogue once in every iteration of `loop`."""
    for name in work.vectors:
        block = sch.get_sblock(name)
        sch.compute_at(block, loop, preserve_unit_loops=True)
        sch.vectorize(sch.split(sch.get_loops(block)[-1], [None, work.channels.lanes])[1])


def store_padded(sch: s_tir.Schedule, spec: LayerSpec, work: Workload, loop: Any) -> None:
    """Copy real channels of a tile out (and of the residual in) by the widest whole vectors."""
    blocks = []
    if not writes_halves(spec):
        blocks.append((sch.get_sblock("out"), -3))
        sch.reverse_compute_at(blocks[0][0], loop, preserve_unit_loops=True)
    if spec.residual:
        blocks.append((sch.get_sblock("residual"), -2))
        sch.compute_at(blocks[-1][0], loop, preserve_unit_loops=True)
    for block, across in blocks:
        loops = sch.get_loops(block)
        channel, column = loops[-1], loops[across]
        n, v = sch.split(channel, [None, work.channels.lanes])
        for inner in (column, n):
            sch.unroll(inner)
        sch.vectorize(v)


def hide_centre(sch: s_tir.Schedule, sums: Any) -> None:
    """Tell TVM that only the start of the sums, decomposed before, reads the vector "centre"."""
    reads = [str(region.source.name) for region in sch.get(sums).reads]
    if "centre" in reads:
        sch.unsafe_hide_buffer_access(sums, "read", [reads.index("centre")])


def _inner(sch: s_tir.Schedule, _spec: LayerSpec, unit: VectorUnit, conv: Any) -> None:
    g, o, h, w, lane, kh, kw, ks, ki = sch.get_loops(conv)[-9:]
    sch.reorder(g, h, kh, kw, ks, w, o, lane, ki)
    for loop in (w, o):
        sch.unroll(loop)
    _start(sch, conv, kh)
    sch.blockize(o)
    _products(sch, unit, lane)


def _inner_unpacking(sch: s_tir.Schedule, spec: LayerSpec, unit: VectorUnit, conv: Any) -> None:
    """The same, each channel block's weights unpacked for a group of steps right before."""
    if spec.weight_group:
        conv = _start_runs(sch, conv)
        g, o, run, h, w, lane, ks, ki = sch.get_loops(conv)[-8:]
        outer = [g, run, h]
    else:
        g, o, h, w, lane, kh, kw, ks, ki = sch.get_loops(conv)[-9:]
        outer = [g, h, kh, kw]
    ks, register = sch.split(ks, [None, GROUPS[spec.weight_bits]])
    sch.reorder(*outer, ks, o, register, w, lane, ki)
    for loop in (o, register, w):
        sch.unroll(loop)
    _start(sch, conv, ks if spec.weight_group else kh)
    place_unpacking(sch, unit, o)
    sch.blockize(lane)
    _products(sch, unit, lane)


def _start_runs(sch: s_tir.Schedule, conv: Any) -> Any:
    """Multiply the sums of a run by vectors; the block that makes them."""
    run, w, o, lane = sch.get_loops(conv)[-4:]
    for loop in (w, o):
        sch.unroll(loop)
    sch.vectorize(lane)
    _start(sch, conv, run)
    return sch.get_sblock(RUN)


def _start(sch: s_tir.Schedule, conv: Any, loop: Any) -> None:
    """Start the sums before `loop`."""
    init = sch.decompose_reduction(conv, loop)
    hide_centre(sch, conv)
    for each in sch.get_loops(init)[-3:-1]:
        sch.unroll(each)
    sch.vectorize(sch.get_loops(init)[-1])


def _products(sch: s_tir.Schedule, unit: VectorUnit, lane: Any) -> None:
    """One instruction for each register of sums."""
    register, lane = sch.split(lane, [None, unit.lanes])
    sch.unroll(register)
    sch.tensorize(lane, dot_intrinsic(unit, 8))
