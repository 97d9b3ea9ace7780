"""Values of integer expressions in a kernel whose shapes are known."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.ir import Call
from tvm.target import codegen

FENCE = "llvm.arithmetic.fence"  # hides a constant from LLVM, so that kernels share code
_BINARY: Mapping[Any, Any] = {
    tirx.Add: lambda a, b: a + b,
    tirx.Sub: lambda a, b: a - b,
    tirx.Mul: lambda a, b: a * b,
    tirx.FloorDiv: lambda a, b: a // b if b else None,
    tirx.FloorMod: lambda a, b: a % b if b else None,
    tirx.Div: lambda a, b: int(a / b) if b else None,
    tirx.Mod: lambda a, b: a % b if b else None,
    tirx.Min: min,
    tirx.Max: max,
    tirx.EQ: lambda a, b: a == b,
    tirx.NE: lambda a, b: a != b,
    tirx.LT: lambda a, b: a < b,
    tirx.LE: lambda a, b: a <= b,
    tirx.GT: lambda a, b: a > b,
    tirx.GE: lambda a, b: a >= b,
    tirx.And: lambda a, b: bool(a and b),
    tirx.Or: lambda a, b: bool(a or b),
}


def called(call: Call) -> tuple[str, list[Any]]:
    """Name of what an expression calls, LLVM's for its intrinsics, and the arguments."""
    name, args = str(call.op.name), list(call.args)
    if not name.startswith("tirx.call_llvm"):
        return name, args
    return _intrinsic(int(args[0].value)), args[1:]


@functools.cache
def _intrinsic(number: int) -> str:
    return str(codegen.llvm_get_intrinsic_name(number))


def value_of(expr: Any, known: Mapping[Any, int]) -> int | None:
    """The value of an integer expression, None where it depends on data.

    Parameters
    ----------
    expr : tirx.PrimExpr or int
        The expression.
    known : mapping
        Values of variables.
    """
    if isinstance(expr, int):
        return expr
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    if isinstance(expr, tirx.Var):
        return known.get(expr)
    if isinstance(expr, tirx.Cast):
        return value_of(expr.value, known)
    if isinstance(expr, tirx.FloatImm):
        return int(expr.value)
    if isinstance(expr, Call):
        name, args = called(expr)
        return value_of(args[0], known) if name == FENCE else None
    compute = _BINARY.get(type(expr))
    if compute is None:
        return None
    a, b = value_of(expr.a, known), value_of(expr.b, known)
    return None if a is None or b is None else compute(a, b)
