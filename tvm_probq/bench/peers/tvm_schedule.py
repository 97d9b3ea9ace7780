"""A schedule for TVM's float kernels without tuning: register tiles, vectors, threads."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import IRModule

from tvm_probq.bench.peers.tvm_graph import CHANNELS, COLUMNS, LANES, PRODUCT, VECTOR

SCHEDULED = "tirx.is_scheduled"
# What a schedule primitive raises where it does not apply.
REFUSALS = (s_tir.ScheduleError, RuntimeError, ValueError, TypeError, IndexError)


def schedule_all(mod: IRModule) -> tuple[IRModule, int, int]:
    """Schedule every kernel that is not scheduled yet.

    Returns
    -------
    mod : IRModule
    scheduled, total : int
        How many of the kernels have loops of the schedule; the others keep plain loops.
    """
    result = IRModule(dict(mod.functions_items()), attrs=mod.attrs)
    scheduled = total = 0
    for var, func in mod.functions_items():
        if not isinstance(func, tirx.PrimFunc) or (func.attrs and SCHEDULED in func.attrs):
            continue
        total += 1
        changed = schedule_kernel(func)
        if changed is not None:
            scheduled += 1
            result.update_func(var, changed)
    return result, scheduled, total


def schedule_kernel(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Schedule one kernel; None where the rules do not fit it."""
    for rule in (_product, _other):
        sch = s_tir.Schedule(func)
        try:
            if rule(sch):
                return sch.mod["main"].with_attr(SCHEDULED, True)
        except REFUSALS:
            continue
    return None


def _product(sch: s_tir.Schedule) -> bool:
    """Keep the sums of a tile in registers: rows and channel panels outside, taps inside."""
    blocks = _blocks(sch)
    names = [_name(sch, block) for block in blocks]
    if PRODUCT not in names:
        return False
    at = names.index(PRODUCT)
    product = blocks[at]
    tile = {str(k): int(v) for k, v in sch.get(product).annotations.items()}
    spatial = len(sch.get(product).iter_vars) - _reductions(sch, product)
    for block in blocks[at + 1 : -1]:
        sch.compute_inline(block)
    if blocks[at + 1 :]:
        last = blocks[-1]
        sch.set_scope(product, 0, "local")
    else:
        last = sch.cache_write(product, 0, "local")
    *outer, w, o = sch.get_loops(last)
    wo, wi = sch.split(w, [None, tile[COLUMNS]])
    oo, oi = sch.split(o, [None, tile[CHANNELS]])
    ob, ol = sch.split(oi, [None, tile[VECTOR]])
    sch.reorder(*outer[:1], oo, *outer[1:], wo, wi, ob, ol)
    sch.compute_at(product, wo, preserve_unit_loops=True)
    task = sch.fuse(*outer[:1], oo, *outer[1:])
    for block in blocks[:at]:
        sch.compute_at(block, task, preserve_unit_loops=True)
        _vectorize_last(sch, block)
    sch.parallel(task)
    loops = sch.get_loops(product)[2:]
    w1, o1 = loops[spatial - 2 : spatial]
    taps = loops[spatial:]
    ob1, ol1 = sch.split(o1, [None, tile[VECTOR]])
    sch.reorder(*taps, w1, ob1, ol1)
    for vector, *steps in ((ol, wi, ob), (ol1, w1, ob1)):
        sch.vectorize(vector)
        for step in steps:
            sch.unroll(step)
    sch.decompose_reduction(product, taps[0])
    return True


def _other(sch: s_tir.Schedule) -> bool:
    """Inline what is elementwise; threads outside, vectors over the last dimension inside."""
    blocks = _blocks(sch)
    for block in blocks[:-1]:
        if not _reductions(sch, block):
            sch.compute_inline(block)
    for block in _blocks(sch):
        count = _reductions(sch, block)
        loops = sch.get_loops(block)
        spatial, taps = loops[: len(loops) - count], loops[len(loops) - count :]
        vector = None
        if lanes := _lanes(int(sch.get(spatial[-1]).extent)):
            last, vector = sch.split(spatial.pop(), [None, lanes])
            spatial.append(last)
            sch.reorder(*spatial, *taps, vector)
        sch.parallel(sch.fuse(*spatial))
        if vector is not None:
            sch.vectorize(vector)
        if taps:
            sch.decompose_reduction(block, taps[0])
    return True


def _vectorize_last(sch: s_tir.Schedule, block: Any) -> None:
    last = sch.get_loops(block)[-1]
    if lanes := _lanes(int(sch.get(last).extent)):
        _, vector = sch.split(last, [None, lanes])
        sch.vectorize(vector)


def _lanes(extent: int) -> int:
    return next((n for n in LANES if extent % n == 0), 0)


def _blocks(sch: s_tir.Schedule) -> list[Any]:
    """All blocks but the root, in order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def _name(sch: s_tir.Schedule, block: Any) -> str:
    return str(sch.get(block).name_hint)


def _reductions(sch: s_tir.Schedule, block: Any) -> int:
    return sum(v.iter_type == tirx.IterVar.CommReduce for v in sch.get(block).iter_vars)


def target_of(target: tvm.target.Target, threads: int) -> tvm.target.Target:
    """The target with a number of cores, which MetaSchedule asks for."""
    return tvm.target.Target({**target.export(), "num-cores": threads})
