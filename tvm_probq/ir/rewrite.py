"""The loop every graph pass shares: visit the calls of each Relax function in order, replace."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule
from tvm.relax.expr_functor import PyExprMutator, mutator


@mutator
class Rewriter(PyExprMutator):  # type: ignore[misc]
    """What a visit function sees: the new function as far as it is built.

    Attributes
    ----------
    builder_ : relax.BlockBuilder
        Emits further bindings before the one visited.
    uses : Counter
        How often each variable of the *old* function is read.
    """

    def __init__(self, mod: IRModule, visit: "Visit", uses: "Counter[Any]") -> None:
        super().__init__(mod)
        self.visit = visit
        self.uses = uses

    def visit_call_(self, call: Call) -> relax.Expr:
        """Replace one call by what the visit function returns, if anything."""
        new = self.visit_expr_post_order(call)
        result = self.visit(self, call, new) if isinstance(new, Call) else None
        return new if result is None else result

    def emit(self, expr: relax.Expr, name: str = "") -> relax.Var:
        """Bind `expr` before the binding that is being visited."""
        return self.builder_.emit(expr, name_hint=name)

    def value(self, expr: Any) -> Any:
        """What a variable of the new function is bound to; `expr` itself for all else."""
        if isinstance(expr, relax.Var):
            bound = self.lookup_binding(expr)
            return (
                expr
                if bound is None
                else self.value(bound)
                if isinstance(bound, relax.Var)
                else bound
            )
        return expr


Visit = Callable[[Rewriter, Call, Call], relax.Expr | None]


def rewrite(mod: IRModule, visit: Visit) -> IRModule:
    """`mod` with every call of its Relax functions offered to ``visit(rewriter, old, new)``.

    `new` is the call with its arguments already rewritten; returning None keeps it.  Functions that
    belong to a fused group (``Primitive``) are left alone.
    """
    result = mod
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function) and "Primitive" not in (func.attrs or {}):
            rewriter = Rewriter(result, visit, count_uses(func))
            changed = rewriter.visit_expr(func)
            rewriter.builder_.update_func(var, changed)
            result = rewriter.builder_.get()
    return clean(result)


def clean(mod: IRModule) -> IRModule:
    """Drop aliases, unused bindings and functions that nothing calls."""
    passes = [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()]
    return tvm.transform.Sequential(passes)(mod)


def variables_of(expr: Any) -> list[Any]:
    """Variables read by one binding's value, with repetitions."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, Call):
        return [v for arg in expr.args for v in variables_of(arg)]
    if isinstance(expr, relax.Tuple):
        return [v for field in expr.fields for v in variables_of(field)]
    if isinstance(expr, relax.TupleGetItem):
        return variables_of(expr.tuple_value)
    return []


def count_uses(func: relax.Function) -> "Counter[Any]":
    """How often each variable is read in `func`."""
    values = [b.value for b in bindings(func)] + [func.body.body]
    return Counter(v for value in values for v in variables_of(value))


def bindings(func: relax.Function) -> list[Any]:
    """All bindings of `func` in order."""
    return [b for block in func.body.blocks for b in block.bindings]
