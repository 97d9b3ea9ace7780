"""Write a layer's output over its residual, or a product over its factor, where that dies."""

from math import prod
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.calls import (
    KERNEL_CALLS,
    RESIDUAL,
    kernel_kind,
    kernel_of,
    result_types,
)
from tvm_probq.kernels.merge import write_over

OPERATORS = ("probq.multiply",)  # not yet lowered, yet their kernels may write over an operand
VIEWS = ("probq.layer", "reshape", "flatten", "squeeze", "expand_dims")


@tvm.transform.module_pass(opt_level=0, name="probq.ReuseResiduals")
class ReuseResiduals:
    """Turn layer calls whose residual dies into in-place calls.

    Before::

        y = R.call_tir(cls.layer, (q, w, ..., r, r_qp), out_ty=...)  # the last reader of r

    After::

        y = R.call_tir_inplace(cls.layer, (q, w, ..., r, r_qp), out_ty=..., inplace_indices=[8])

    A kernel reads each element of the residual just before it writes the same element of the
    output; so does that of an elementwise product with its first factor.  Holds before:
    `LowerLayers`, which names the residual's position in the kernel's attribute ``probq.residual``.
    Holds after: a dying residual costs no second tensor.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        dying = _dying_residuals(mod)
        done: dict[Any, Any] = {}

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if old not in dying:
                return None
            index = dying[old]
            kernel, tensors = kernel_of(mod, new)
            key = new.args[0] if is_call(new, "call_tir") else new
            if key not in done:
                name = f"inplace_{kernel_kind(mod, new)}"
                done[key] = rewriter.builder_.add_func(write_over(kernel, index), name)
            types = result_types(new.ty)
            places = [-1] * (len(types) - 1) + [index]
            return relax.op.call_tir_inplace(done[key], relax.Tuple(tensors), places, types)

        return rewrite(mod, visit)


def _dying_residuals(mod: IRModule) -> dict[Any, int]:
    """Position of the residual of each call that reads its memory last."""
    definitions = Definitions(mod["main"])
    order = definitions.order
    found = {}
    for call in order:
        if not is_call(call, "call_tir", *OPERATORS):
            continue
        kernel, tensors = kernel_of(mod, call)
        if kernel.attrs is None or RESIDUAL not in kernel.attrs:
            continue
        index = int(kernel.attrs[RESIDUAL])
        names = _aliases(definitions, tensors[index])
        readers = [u for v in names for u in definitions.users.get(v, [])]
        others = [u for u in readers if not is_call(u, *VIEWS)]
        returned = any(v in definitions.outputs for v in names)
        alike = _size(tensors[index].ty) == _size(result_types(call.ty)[-1])
        shared = sum(any(a.same_as(n) for n in names) for a in tensors) > 1
        last = all(order[u] <= order[call] for u in others)
        if names and alike and last and not shared and not returned:
            found[call] = index
    return found


def _size(ty: Any) -> tuple[str, int]:
    """dtype and elements of a tensor: codes may be reals in the output, or stored otherwise."""
    return str(ty.dtype), prod(int(d) for d in ty.shape.values)


def _aliases(definitions: Definitions, tensor: Any) -> list[Any]:
    """Variables that share a tensor's memory, by markers and views; none for a parameter."""
    call = definitions.value(tensor)
    while is_call(call, "probq.layer"):
        tensor = call.args[0]
        call = definitions.value(tensor)
    of_tuple = isinstance(call, relax.TupleGetItem)
    owner = definitions.value(call.tuple_value) if of_tuple else call
    if not is_call(owner, *KERNEL_CALLS, *OPERATORS, "probq.pad", "probq.add", "probq.requantize"):
        return []
    names = [tensor]
    for name in names:
        users = definitions.users.get(name, [])
        names += [definitions.var_of[u] for u in users if is_call(u, *VIEWS)]
    return names
