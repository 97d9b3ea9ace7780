"""Give every kernel one constant argument."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import constant, constant_value, is_constant
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.arena import in_turn, packed
from tvm_probq.kernels.calls import RESIDUAL, arguments, kernel_kind, kernel_of, result_types
from tvm_probq.kernels.merge import pack_arguments


@tvm.transform.module_pass(opt_level=0, name="probq.PackConstants")
class PackConstants:
    """Put all constants of a kernel call side by side into one.

    Before::

        y = R.call_tir(cls.layer, (q, w_packed, t, w_sums, bias, qp, y_qp), out_ty=...)

    After::

        y = R.call_tir(cls.packed_layer, (q, qp, y_qp, constants), out_ty=...)

    Each argument costs time at every call, and constants side by side are fetched together.  Each
    starts at a multiple of 64 bytes.  An operator with several constants becomes a call of its
    kernel.  Holds before: `LowerLayers`; not yet `ReuseResiduals`, which notes positions of
    arguments.  Holds after: a kernel of ours has at most one constant argument.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""

        def visit(rewriter: Rewriter, _old: Call, new: Call) -> relax.Expr | None:
            name = kernel_kind(mod, new)
            if not name or sum(map(is_constant, arguments(new))) < 2:
                return None
            kernel, tensors = kernel_of(mod, new)
            at = [i for i, tensor in enumerate(tensors) if is_constant(tensor)]
            arrays = [constant_value(tensors[i]) for i in at]
            layout = in_turn(array.nbytes for array in arrays)
            offsets = dict(zip(at, layout.offsets, strict=True))
            kernel = pack_arguments(kernel, offsets, len(tensors), layout.size_bytes)
            if RESIDUAL in kernel.attrs:
                residual = int(kernel.attrs[RESIDUAL])
                kernel = kernel.with_attr(RESIDUAL, residual - sum(i < residual for i in at))
            function = rewriter.builder_.add_func(kernel, f"packed_{name}")
            kept = [t for i, t in enumerate(tensors) if i not in at]
            kept.append(constant(packed(arrays, layout)))
            return relax.op.call_tir(function, kept, out_ty=result_types(new.ty))

        return rewrite(mod, visit)
