"""What a kernel has to do, counted in its code: operations, memory accesses, loops."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tvm import tirx
from tvm.ir import Call, PointerType, StringImm, TensorLoad
from tvm.runtime import DataType
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import ForKind

from tvm_probq.latency.scalars import called, value_of

# Kinds of work. A vector is one register's width; narrower operations count as one too.
KINDS = (
    "dots", "floats", "integers", "casts", "shuffles", "divisions", "functions", "scalars",
    "loads", "stores", "inner_loads", "inner_stores", "loops", "iterations", "branches",
)  # fmt: skip
_DOTS = ("vpdp", "pmadd", "dot", "mmla", "smull", "umull", "smlal", "adalp", "tdp", "mma")
_FREE = ("arithmetic.fence", "reinterpret", "address_of", "likely", "tvm_access_ptr", "bitcast")
_ROOTS = ("sqrt", "rcp")  # as slow as a division
_CHEAP = ("fma", "if_then_else", "nearbyint", "round", "rint", "trunc", "fabs", "min", "max")
_SHUFFLES = ("pack", "tbl", "zip", "perm", "vector.splice", "multishift")
_INTEGERS = (
    tirx.And, tirx.Or, tirx.Not, tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE,
)  # fmt: skip
_ARITHMETIC = (
    tirx.Add, tirx.Sub, tirx.Mul, tirx.Min, tirx.Max, tirx.Select, tirx.LShift, tirx.RShift,
    tirx.BitwiseAnd, tirx.BitwiseOr, tirx.BitwiseXor, tirx.BitwiseNot, *_INTEGERS,
)  # fmt: skip
_DIVISIONS = (tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod)
LANES = 16  # that LLVM's own vectors are taken to have
UNKNOWN_EXTENT = 1  # of a loop whose extent depends on data


def work_of(func: tirx.PrimFunc, vector_bytes: int) -> dict[str, float]:
    """Count the work of one run of a scheduled kernel.

    Loops multiply what is inside them, but for what is the same in every turn of an unrolled loop
    (LLVM computes it once); of a branch that depends on data both sides count half.
    Index arithmetic is not counted: most of it is gone when LLVM is done.

    Parameters
    ----------
    func : tirx.PrimFunc
        Scheduled, not lowered, with static shapes.
    vector_bytes : int
        Bytes of a register.

    Returns
    -------
    dict of str to float
        By `KINDS`; absent kinds are zero.
    """
    walk = _Walk(vector_bytes, set(func.params))
    walk.whole(func.body)
    return walk.found


class _Walk:
    """The walk over a kernel's statements.

    Attributes
    ----------
    found : dict
        Counts by kind.
    """

    def __init__(self, vector_bytes: int, outer: set[Any]) -> None:
        self.found: defaultdict[str, float] = defaultdict(float)
        self._vector_bytes = vector_bytes
        self._outer = outer  # buffers in the memory of arguments
        self._known: dict[Any, int] = {}
        self._last: dict[Any, int] = {}  # values of loop variables in the last turn
        self._target: Any = None  # buffer that the present statement writes
        self._unrolled: dict[Any, int] = {}  # extents of the unrolled loops around
        self._varies: dict[Any, frozenset[Any]] = {}  # with which of those variables and views do
        self._statements: Mapping[Any, Callable[[Any, float, int], None]] = {
            tirx.SeqStmt: self._sequence,
            tirx.For: self._loop,
            tirx.While: lambda s, n, lanes: self._statement(s.body, n, lanes),
            tirx.IfThenElse: self._branch,
            tirx.Bind: self._bind,
            tirx.BufferStore: self._store,
            tirx.Evaluate: self._evaluate,
            tirx.AttrStmt: lambda s, n, lanes: self._statement(s.body, n, lanes),
            tirx.DeclBuffer: self._declare,
            SBlockRealize: self._realize,
        }

    def whole(self, stmt: Any) -> None:
        """Count a kernel's body."""
        self._statement(stmt, 1.0, 1)

    def _statement(self, stmt: Any, times: float, lanes: int) -> None:
        """Count a statement that runs `times`, in a vectorized loop of `lanes`."""
        visit = self._statements.get(type(stmt))
        if visit is not None:
            visit(stmt, times, lanes)

    def _expression(self, expr: Any, times: float, lanes: int) -> frozenset[Any]:
        """Count the operations of an expression; gives the unrolled loops that it varies with."""
        if isinstance(expr, TensorLoad):
            return self._load(expr, times, lanes)
        if isinstance(expr, Call):
            return self._call(expr, times, lanes)
        if isinstance(expr, tirx.Ramp):
            return self._depends(expr.base)
        if isinstance(expr, tirx.Var | tirx.IntImm | tirx.FloatImm):
            return self._depends(expr)
        varies = _union(self._expression(part, times, lanes) for part in _parts(expr))
        kind = _kind(expr)
        if kind:
            self._count(kind, expr, self._once(times, varies), lanes)
        return varies

    def _load(self, load: Any, times: float, lanes: int) -> frozenset[Any]:
        buffer = load.source
        varies = _union(map(self._depends, load.indices)) | self._varies.get(buffer, frozenset())
        if buffer in self._outer:
            self._count("loads", load, self._once(times, varies), lanes)
            return varies
        # What is written meanwhile is another value each time; running sums are in registers.
        if buffer is not self._target and not buffer.same_as(self._target):
            self._count("inner_loads", load, times, lanes)
        return frozenset(self._unrolled)

    def _once(self, times: float, varies: frozenset[Any]) -> float:
        """How often what is the same in all turns of some unrolled loops is computed."""
        for var, extent in self._unrolled.items():
            if var not in varies:
                times /= extent
        return times

    def _depends(self, expr: Any) -> frozenset[Any]:
        """The unrolled loops that an index varies with."""
        if isinstance(expr, tirx.Var):
            return self._varies.get(expr, frozenset())
        if isinstance(expr, tirx.Ramp):
            return self._depends(expr.base)
        if isinstance(expr, TensorLoad):
            return frozenset(self._unrolled)
        if isinstance(expr, Call):
            return _union(self._depends(part) for part in called(expr)[1])
        return _union(map(self._depends, _parts(expr)))

    def _count(self, kind: str, expr: Any, times: float, lanes: int) -> None:
        dtype = DataType(_dtype(expr))
        width = dtype.lanes * lanes
        vectors = max(1.0, width * -(-dtype.bits // 8) / self._vector_bytes)
        if width == 1 and kind in ("floats", "integers", "casts"):
            kind = "scalars"
        self.found[kind] += times * vectors

    def _call(self, call: Any, times: float, lanes: int) -> frozenset[Any]:
        name, args = called(call)
        parts = [part for part in args if not isinstance(part, StringImm | str)]
        varies = _union(self._expression(part, times, lanes) for part in parts)
        kind = _kind_of_call(name)
        if kind and not isinstance(call.ty, PointerType):  # an address is no work
            self._count(kind, call, self._once(times, varies), lanes)
        return varies

    def _sequence(self, stmt: Any, times: float, lanes: int) -> None:
        for part in stmt.seq:
            self._statement(part, times, lanes)

    def _evaluate(self, stmt: Any, times: float, lanes: int) -> None:
        self._expression(stmt.value, times, lanes)

    def _loop(self, stmt: Any, times: float, lanes: int) -> None:
        extent = value_of(stmt.extent, self._known)
        count = UNKNOWN_EXTENT if extent is None else max(extent, 0)
        self._known[stmt.loop_var] = 0
        self._last[stmt.loop_var] = max(count - 1, 0)
        if stmt.kind == ForKind.VECTORIZED:
            self._statement(stmt.body, times, lanes * max(count, 1))
        elif stmt.kind == ForKind.UNROLLED and count > 1:
            self._unrolled[stmt.loop_var] = count
            self._varies[stmt.loop_var] = frozenset([stmt.loop_var])
            self._statement(stmt.body, times * count, lanes)
            del self._unrolled[stmt.loop_var]
        elif lanes == 1 and count >= LANES and _is_plain(stmt.body):
            self.found["loops"] += times
            self.found["iterations"] += times * count / LANES
            self._statement(stmt.body, times * count / LANES, LANES)
        else:
            if count > 1:
                self.found["loops"] += times
                self.found["iterations"] += times * count
            self._statement(stmt.body, times * count, lanes)

    def _branch(self, stmt: Any, times: float, lanes: int) -> None:
        self.found["branches"] += times
        share = self._share(stmt.condition)
        if stmt.else_case is None:
            self._statement(stmt.then_case, times if share is None else times * share, lanes)
            return
        share = 0.5 if share is None else share
        self._statement(stmt.then_case, times * share, lanes)
        self._statement(stmt.else_case, times * (1 - share), lanes)

    def _share(self, condition: Any) -> float | None:
        """In which share of the turns of all loops a condition holds; None if data decide."""
        if isinstance(condition, Call) and "likely" in called(condition)[0]:
            return self._share(called(condition)[1][0])
        if isinstance(condition, tirx.And):
            shares = [self._share(condition.a), self._share(condition.b)]
            return math.prod(1.0 if share is None else share for share in shares)
        first, last = value_of(condition, self._known), value_of(condition, self._last)
        if first is None or last is None or bool(first) == bool(last):
            return None if first is None else float(first)
        if isinstance(condition, tirx.LT | tirx.LE):
            span = value_of(condition.a, self._last)
            bound = value_of(condition.b, self._known)
            if span is not None and bound is not None:
                return min(1.0, bound / (span + 1)) if span >= 0 else 1.0
        return 0.5

    def _bind(self, stmt: Any, times: float, lanes: int) -> None:
        value = value_of(stmt.value, self._known)
        if value is not None:
            self._known[stmt.var] = value
            last = value_of(stmt.value, self._last)
            self._last[stmt.var] = value if last is None else last
            self._varies[stmt.var] = self._depends(stmt.value)
        else:
            self._varies[stmt.var] = self._expression(stmt.value, times, lanes)

    def _store(self, stmt: Any, times: float, lanes: int) -> None:
        self._target = stmt.buffer
        self._expression(stmt.value, times, lanes)
        self._target = None
        kind = "stores" if stmt.buffer in self._outer else "inner_stores"
        self._count(kind, stmt.value, times, lanes)

    def _declare(self, stmt: Any, _times: float, _lanes: int) -> None:
        data = stmt.data
        owner = data.args[0] if isinstance(data, Call) and len(data.args) else data
        if isinstance(owner, TensorLoad):
            owner = owner.source
        self._view(stmt.buffer, owner, [])

    def _realize(self, stmt: Any, times: float, lanes: int) -> None:
        block: SBlock = stmt.block
        for var, value in zip(block.iter_vars, stmt.iter_values, strict=True):
            for known in (self._known, self._last):
                found = value_of(value, known)
                if found is not None:
                    known[var.var] = found
            self._varies[var.var] = self._depends(value)
        inside = self._share(stmt.predicate)
        times *= 1.0 if inside is None else inside
        for match in block.match_buffers:
            self._view(match.buffer, match.source.source, [r.min for r in match.source.region])
        if block.init is not None:
            self._statement(block.init, times, lanes)
        self._statement(block.body, times, lanes)

    def _view(self, view: Any, owner: Any, starts: list[Any]) -> None:
        """Note a view of another buffer that begins at `starts`."""
        if owner in self._outer:
            self._outer.add(view)
        inherited = self._varies.get(owner, frozenset())
        self._varies[view] = inherited | _union(map(self._depends, starts))


def _is_plain(body: Any) -> bool:
    """Whether a loop's body is one scalar statement, so that LLVM makes vectors of the loop."""
    while isinstance(body, SBlockRealize):
        if body.block.init is not None or body.block.match_buffers:
            return False
        body = body.block.body
    return isinstance(body, tirx.BufferStore) and DataType(_dtype(body.value)).lanes == 1


def _union(sets: Iterable[frozenset[Any]]) -> frozenset[Any]:
    return frozenset().union(*sets)


def _dtype(expr: Any) -> str:
    return str(expr.dtype if hasattr(expr, "dtype") else expr.ty.dtype)


def _kind_of_call(name: str) -> str:
    if any(free in name for free in _FREE):
        return ""
    if any(dot in name for dot in _DOTS):
        return "dots"
    if any(root in name for root in _ROOTS):
        return "divisions"
    if any(cheap in name for cheap in _CHEAP):
        return "floats"
    return "shuffles" if any(shuffle in name for shuffle in _SHUFFLES) else "functions"


def _kind(expr: Any) -> str:
    if isinstance(expr, tirx.Cast):
        return "casts"
    if isinstance(expr, tirx.Shuffle):
        return "shuffles"
    floating = "float" in _dtype(expr)
    if isinstance(expr, _DIVISIONS):
        return "divisions" if floating else "integers"
    if isinstance(expr, _ARITHMETIC):
        return "floats" if floating else "integers"
    return ""


def _parts(expr: Any) -> list[Any]:
    if isinstance(expr, tirx.Cast | tirx.Broadcast):
        return [expr.value]
    if isinstance(expr, tirx.Select):
        return [expr.condition, expr.true_value, expr.false_value]
    if isinstance(expr, tirx.Shuffle):
        return list(expr.vectors)
    if isinstance(expr, tirx.Not | tirx.BitwiseNot):
        return [expr.a]
    return [getattr(expr, name) for name in ("a", "b") if hasattr(expr, name)]
