"""Remove tuples that only named the outputs of a kernel."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import IRModule

from tvm_probq.ir.rewrite import count_uses


@tvm.transform.module_pass(opt_level=0, name="probq.DropUnusedTuples")
class DropUnusedTuples:
    """Remove bindings of tuples that nothing reads, which the virtual machine would build.

    Before::

        cls.predicted_layer(q, qp, w, y_qp, y)
        lv = (y_qp, y)

    After::

        cls.predicted_layer(q, qp, w, y_qp, y)

    TVM's own removal of dead code cannot be used here: kernel calls that write their arguments
    would count as dead.  Holds before: ``CallTIRRewrite`` and ``CanonicalizeBindings``.  Holds
    after: every tuple is read.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        result = mod.clone()
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and isinstance(func.body, relax.SeqExpr):
                result.update_func(var, _without_tuples(func))
        return result


def _without_tuples(func: relax.Function) -> relax.Function:
    uses = count_uses(func)
    blocks = [
        type(block)([b for b in block.bindings if not _is_unused_tuple(b, uses)])
        for block in func.body.blocks
    ]
    body = relax.SeqExpr(blocks, func.body.body)
    return relax.Function(func.params, body, func.ret_ty, func.is_pure, func.attrs)


def _is_unused_tuple(binding: Any, uses: Any) -> bool:
    return isinstance(binding.value, relax.Tuple) and uses[binding.var] == 0
