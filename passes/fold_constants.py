"""Evaluate operators whose arguments are all constant."""

from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import (
    constant,
    constant_value,
    is_call,
    is_constant,
    is_tensor,
    op_name,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.float_ops import FLOAT_OPS


@tvm.transform.module_pass(opt_level=0, name="probq.FoldConstants")
class FoldConstants:
    """Evaluate constant subexpressions in NumPy; TVM's own folding compiles every one of them.

    Before::

        lv = R.reshape(metadata["ir.GenericConst"][1], R.shape([1, 16, 1, 1]))
        lv1 = R.where(R.isnan(R.const(6.0, "float32")), R.const("inf", "float32"), R.const(6.0))

    After::

        metadata["ir.GenericConst"][1]  # reshaped
        R.const(6.0, "float32")

    A shape that is known is a constant too.  Holds before: nothing.  Holds after: no known operator
    has only constant arguments.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if is_call(new, "shape_to_tensor"):
                return _shape(new.args[0])
            function = FLOAT_OPS.get(op_name(new))
            if function is None or not is_tensor(new):
                return None
            args = [_fold(rewriter, a) for a in new.args]
            if not args or any(a is None for a in args):
                return None
            with np.errstate(all="ignore"):
                value = function(new, args)
            return constant(value) if isinstance(value, np.ndarray | np.generic) else None

        return rewrite(mod, visit)


def _shape(shape: relax.Expr) -> relax.Expr | None:
    """A known shape as a constant tensor, None for another."""
    extents = getattr(shape.ty, "values", None)
    if extents is None or not all(isinstance(d, tirx.IntImm) for d in extents):
        return None
    return constant(np.array([int(d) for d in extents], np.int64))


def _fold(rewriter: Rewriter, arg: Any) -> Any:
    """The value of a constant argument, the argument if it is no tensor, None if it varies."""
    arg = rewriter.value(arg)
    if is_constant(arg):
        return constant_value(arg)
    if isinstance(arg, relax.Tuple) and arg.fields and isinstance(arg.ty, relax.TupleType):
        fields = [_fold(rewriter, f) for f in arg.fields]
        return None if any(f is None for f in fields) else fields
    if isinstance(getattr(arg, "ty", None), relax.TensorType):
        return None
    return arg
