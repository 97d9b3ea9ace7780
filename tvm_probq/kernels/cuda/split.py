"""Which loops of a small kernel can be split among blocks."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from tvm_probq.kernels.cuda.access import Memory

MOST_BLOCKS = 1024


def split_loops(memory: Memory, body: tirx.Stmt) -> dict[Any, int]:
    """The loops to split, none of them inside another, with their extents.

    The turns of such a loop write different elements of the results, or the same values twice, and
    leave nothing in scratch memory for what comes behind.  Of loops inside each other it is the
    longest.
    """
    found: dict[Any, int] = {}
    for loop in _outer_loops(body):
        inner = split_loops(memory, loop.body)
        extent = memory.extent(loop.extent) or 0
        if extent > max(inner.values(), default=1) and _is_parallel(memory, loop):
            found[loop] = extent
        else:
            found |= inner
    return found


def _outer_loops(stmt: Any) -> list[tirx.For]:
    if isinstance(stmt, tirx.For):
        return [stmt]
    if isinstance(stmt, tirx.SeqStmt):
        return [loop for part in stmt.seq for loop in _outer_loops(part)]
    if isinstance(stmt, tirx.AttrStmt):
        return _outer_loops(stmt.body)
    return []


def _is_parallel(memory: Memory, loop: tirx.For) -> bool:
    allocated: list[Any] = []
    stores: list[Any] = []
    depending = [loop.loop_var]

    def bound(stmt: tirx.Bind) -> None:
        if _reads(stmt.value, depending):
            depending.append(stmt.var)

    tvm_ffi.structural_walk(
        loop.body,
        [
            (tirx.AllocBuffer, lambda stmt: allocated.append(stmt.buffer)),
            (tirx.BufferStore, stores.append),
            (tirx.Bind, bound),
        ],
    )
    results = 0
    for stmt in stores:
        base = memory.base(stmt.buffer)
        if base in memory.places:
            if not any(base.same_as(b) for b in allocated):
                return False
        elif not any(_reads(i, depending) for i in stmt.indices):
            return False
        else:
            results += 1
    return results > 0


def _reads(value: Any, variables: list[Any]) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(value, (tirx.Var, found.append))
    return any(v.same_as(other) for v in found for other in variables)
