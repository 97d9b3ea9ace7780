"""Reading a scheduled block's loops, and putting other code in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock
from tvm.tirx import For, Var


def with_body(block: SBlock, body: tirx.Stmt) -> SBlock:
    """`block` with another body, which starts its results itself; reads and writes stay."""
    return SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, None,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip


def peeled(block: SBlock) -> tuple[list[Any], dict[Any, Any], tirx.Stmt]:
    """Loop variables, values of the inner block's iterators, and its statement."""
    loops, realize = [], block.body
    while isinstance(realize, For):
        loops.append(realize.loop_var)
        realize = realize.body
    inner = realize.block
    pairs = zip(inner.iter_vars, realize.iter_values, strict=True)
    return loops, {i.var: value for i, value in pairs}, inner.body


def replaced(expr: Any, values: Mapping[Any, Any]) -> Any:
    """`expr` with expressions in place of variables."""
    return tvm_ffi.structural_map(expr, [(Var, lambda v: values.get(v, v))])
