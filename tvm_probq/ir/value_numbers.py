"""Numbers of values: what two functions compute alike from the same inputs has the same number."""

import hashlib
from typing import Any

from tvm import relax
from tvm.ir import Call
from tvm_ffi import structural_hash

from tvm_probq.ir.expressions import constant_value, is_constant
from tvm_probq.ir.rewrite import bindings


class ValueNumbers:
    """Numbers the variables of functions, of which any may be compared with any other."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}

    def of(self, func: relax.Function) -> dict[Any, int]:
        """Number the parameters and variables of a function, by variable."""
        found = {param: self._number(("param", i)) for i, param in enumerate(func.params)}
        for binding in bindings(func):
            found[binding.var] = self._expression(binding.value, found)
        return found

    def _expression(self, expr: Any, found: dict[Any, int]) -> int:
        if isinstance(expr, relax.Var):
            return found[expr]
        if is_constant(expr):
            value = constant_value(expr)
            digest = hashlib.sha256(value.tobytes()).digest()
            return self._number(("constant", str(value.dtype), value.shape, digest))
        if isinstance(expr, relax.Tuple):
            return self._number(("tuple", *(self._expression(f, found) for f in expr.fields)))
        if isinstance(expr, relax.TupleGetItem):
            return self._number(
                ("field", int(expr.index), self._expression(expr.tuple_value, found))
            )
        if isinstance(expr, Call):
            args = [self._expression(arg, found) for arg in expr.args]
            attrs = None if expr.attrs is None else structural_hash(expr.attrs)
            return self._number(("call", str(expr.op), attrs, str(expr.ty), *args))
        return self._number(("other", str(expr)))  # shapes and numbers

    def _number(self, key: Any) -> int:
        return self._known.setdefault(key, len(self._known))
