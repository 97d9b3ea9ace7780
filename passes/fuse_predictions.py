"""Predict everything that is predicted from one tensor in one kernel."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant_value, is_call, shape_of
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.byte_sums import byte_sums
from tvm_probq.kernels.cuda.predict import cuda_measured_pool_kernel, cuda_predict_kernel
from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.kernels.small import (
    call_kernel,
    correction_spec,
    measured_pool_kernel,
    predict_kernel,
    sums_kernel,
    sums_strides,
    surrogate_spec,
)
from tvm_probq.kernels.small.predict import sums_by
from tvm_probq.kernels.small.sums import emit_sums

Make = Callable[..., Any]
MOMENTS = ("moments_tensor", "moments_channel", "moments_diagonal")


@tvm.transform.module_pass(opt_level=0, name="probq.FusePredictions")
class FusePredictions:
    """Merge the sums of a tensor, the surrogate and the correction that read them into one kernel.

    Before::

        s = R.probq.sums(q, strides=[4, 3])
        shift = R.probq.correction(s, qp, matrix, scale, basis, count=256)
        y_qp = R.probq.surrogate(s, qp, ..., kind="moments_tensor", count=256)

    After::

        both = R.call_tir(cls.predict, (q, qp, ..., matrix, scale), out_ty=[...])
        y_qp, shift = both[0], both[1]

    The kernel also hands out the sums where a later layer reads them.  Surrogates of the kind
    ``iid`` read other sums and stay as they are; sums that no surrogate of moments reads become a
    kernel of their own.  Global pooling and the range of its result become
    one kernel too.  For a CUDA device, where each kernel is a launch, surrogate and correction of
    sums that an earlier kernel handed out are one kernel too, and what needs more memory than a
    thread block has stays apart.  Holds before: `InsertRequantize`.  Holds after: a layer predicted
    by its moments calls one prediction kernel.

    Parameters
    ----------
    target : tvm.target.Target
        What it has for bytes makes the sums (:mod:`tvm_probq.kernels.byte_sums`).
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.cuda = is_cuda(target)
        self.dot = None if self.cuda else byte_sums(target)

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        summing = partial(sums_by, emit=partial(emit_sums, dot=self.dot))
        fuser = _Fuser(Definitions(mod["main"]), partial(predict_kernel, summing=summing))
        if self.cuda:
            makers = cuda_predict_kernel, cuda_measured_pool_kernel
            return rewrite(mod, _Fuser(Definitions(mod["main"]), *makers, given=True).visit)
        return rewrite(rewrite(mod, fuser.visit), self._sums)

    def _sums(self, rewriter: Rewriter, _old: Call, new: Call) -> relax.Expr | None:
        """The kernel of sums that are still an operator."""
        if not is_call(new, "probq.sums"):
            return None
        packed = ops.reads_packed(new)
        kernel = sums_kernel(shape_of(new.args[0]), sums_strides(new), self.dot, packed)
        return call_kernel(rewriter.builder_, kernel, [new.args[0]], new.ty)


class _Fuser:
    """Visits calls in order; knows which results a fused kernel has already replaced.

    Parameters
    ----------
    definitions : Definitions
        Of the function.
    predict, measured_pool : callable
        What makes the kernels; None instead of a kernel leaves the operators as they are.
    given : bool, optional
        Whether to fuse what reads sums that an earlier kernel hands out.
    """

    def __init__(
        self, definitions: Definitions, predict: Make, measured_pool: Make = measured_pool_kernel,
        *, given: bool = False,
    ) -> None:  # fmt: skip
        self.definitions = definitions
        self.predict, self.measured_pool, self.given = predict, measured_pool, given
        self.replaced: dict[Any, Any] = {}
        self.corrections: dict[Any, list[tuple[Call, Any]]] = {}

    def visit(self, rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        """Rewrite one call."""
        args = [self._current(rewriter, a) for a in new.args]
        if any(not a.same_as(b) for a, b in zip(args, new.args, strict=True)):
            new = Call(new.op, args, new.attrs, new.ty_args)
            new = rewriter.builder_.normalize(new)
        if is_call(new, "probq.correction"):
            variable = rewriter.emit(new, "shift")
            self.corrections.setdefault(new.args[0], []).append((new, variable))
            return variable
        if is_call(new, "probq.surrogate") and str(new.attrs["kind"]) in MOMENTS:
            sums = rewriter.value(new.args[0])
            if is_call(sums, "probq.sums"):
                return self._fuse(rewriter, old, new, sums)
            if self.given:
                return self._fuse(rewriter, old, new, None)
        if is_call(new, "probq.global_avg_pool"):
            return self._measured_pool(rewriter, new)
        return new

    def _measured_pool(self, rewriter: Rewriter, new: Call) -> relax.Expr:
        """A pooling under the range of its own result; any other as it is."""
        x, x_qparams, y_qparams = new.args
        found = rewriter.value(y_qparams)
        if not is_call(found, "probq.pool_range"):
            return new
        if not (found.args[0].same_as(x) and found.args[1].same_as(x_qparams)):
            return new
        kernel = self.measured_pool(
            shape_of(x), shape_of(x_qparams)[2], int(found.attrs["qmax"])
        )  # fmt: skip
        types = [y_qparams.ty, new.ty]
        both = rewriter.emit(call_kernel(rewriter.builder_, kernel, [x, x_qparams], types))
        self.replaced[y_qparams] = rewriter.emit(relax.TupleGetItem(both, 0))
        return relax.TupleGetItem(both, 1)

    def _current(self, rewriter: Rewriter, arg: Any) -> Any:
        """What an argument stands for now, behind aliases."""
        while isinstance(arg, relax.Var) and arg not in self.replaced:
            bound = rewriter.lookup_binding(arg)
            if not isinstance(bound, relax.Var):
                return arg
            arg = bound
        return self.replaced.get(arg, arg) if isinstance(arg, relax.Var) else arg

    def _fuse(self, rewriter: Rewriter, old: Call, new: Call, sums: Call | None) -> relax.Expr:
        """The kernel of a surrogate and of its correction; of their sums too, unless None."""
        stat = new.args[0]
        waiting = self.corrections.get(stat, [])
        found = waiting[0] if waiting else None
        correction = None if found is None else found[0]
        readers = self.definitions.users.get(old.args[0], [])
        with_sums = sums is not None and len(readers) > 1 + (correction is not None)
        shared = correction is not None and _shares_basis(new, correction)
        q, spec = stat if sums is None else sums.args[0], surrogate_spec(new)
        tensors = [q, *list(new.args)[1:]]
        constants = [] if correction is None else list(correction.args)[2:]
        if shared and spec.has_basis:
            basis = constants.pop()
            tensors[2] = basis
            spec = replace(spec, constants=(shape_of(basis), *spec.constants[1:]))
        kernel = self.predict(
            shape_of(q) if sums is None else summed_shape(sums),
            None if sums is None else sums_strides(sums), spec,
            None if correction is None else correction_spec(correction),
            shared_basis=shared, with_sums=with_sums,
            packed=sums is not None and ops.reads_packed(sums),
        )  # fmt: skip
        if kernel is None:
            return new
        del waiting[:1]
        tensors += constants
        types = [stat.ty] if with_sums else []
        types.append(new.ty)
        if correction is not None:
            types.append(correction.ty)
        result = rewriter.emit(
            call_kernel(rewriter.builder_, kernel, tensors, types if len(types) > 1 else types[0]),
            "predicted",
        )
        if len(types) == 1:
            return result
        fields = [rewriter.emit(relax.TupleGetItem(result, i)) for i in range(len(types))]
        if with_sums:
            self.replaced[stat] = fields[0]
        if found is not None:
            self.replaced[found[1]] = fields[-1]
        return fields[int(with_sums)]


def summed_shape(sums: Call) -> tuple[int, ...]:
    """Shape of the codes that a call of `sums` reads."""
    *outer, _ = shape_of(sums.args[0])
    return *outer, shape_of(sums)[-1]


def _shares_basis(surrogate: Call, correction: Call) -> bool:
    """Whether the surrogate projects on what the correction does, or on the first columns of it."""
    args = ops.surrogate_args(surrogate)
    if args.kind != "moments_tensor" or len(correction.args) == 3:
        return False
    own = args.constants[0] if len(args.constants) == 5 else None
    other = correction.args[4] if len(correction.args) == 5 else None
    if own is None or other is None:
        return own is None and other is None
    columns = constant_value(own)
    return np.array_equal(columns, constant_value(other)[:, : columns.shape[1]])
