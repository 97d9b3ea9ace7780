"""Fold bias, correction, residual and activation of a layer into its requantization."""

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.rewrite import Rewriter, rewrite


@tvm.transform.module_pass(opt_level=0, name="probq.InsertRequantize")
class InsertRequantize:
    """Go from the accumulator to stored codes in one operator.

    Before::

        lv = R.probq.dequantize_accumulator(acc, x_qp, t, w_sums, zeros)
        lv1 = R.add(R.add(lv, bias), R.probq.dequantize(r, r_qp))
        lv2 = R.probq.activation(lv1, kind="clip(0.0,inf)")
        q = R.probq.quantize(lv2, qp)

    After::

        q = R.probq.requantize(acc, x_qp, qp, t, w_sums, bias, r, r_qp, activation="clip(0.0,inf)")

    ``observe`` of such a value becomes ``measure`` of the accumulator, and a layer that leaves the
    function becomes one ``dequantize_accumulator``.  Holds before: `WidenAccumulators`.  Holds
    after: no float tensor stands between an accumulator and its codes.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    if is_call(new, "probq.quantize", "probq.observe"):
        tail = _tail(rewriter, new.args[0])
        if tail is None:
            return None
        if is_call(new, "probq.observe"):
            return tail.measure(int(new.attrs["qmax"]))
        return tail.requantize(new.args[1], ops.largest_code(new))
    if is_call(new, "probq.layer") and str(new.attrs["kind"]) == "output":
        tail = _tail(rewriter, new.args[0])
        if tail is None:
            return None
        attrs = {k: str(new.attrs[k]) for k in ("name", "kind", "reason")}
        return ops.layer(rewriter.emit(tail.dequantize()), **attrs)
    return None


@dataclass
class _Tail:
    """What follows an accumulator, collected from its end."""

    start: ops.AccumulatorArgs
    bias: Any
    correction: Any
    residual: Any
    activation: str

    def requantize(self, y_qparams: Any, qmax: int) -> Call:
        a = self.start
        return ops.requantize(
            a.acc, a.x_qparams, y_qparams, a.weight_scale, a.weight_sum, self.bias,
            self.correction, self.residual, activation=self.activation, qmax=qmax,
        )  # fmt: skip

    def measure(self, qmax: int) -> Call:
        a = self.start
        return ops.measure(
            a.acc, a.x_qparams, a.weight_scale, a.weight_sum, self.bias, self.correction,
            self.residual, activation=self.activation, qmax=qmax,
        )  # fmt: skip

    def dequantize(self) -> Call:
        a = self.start
        return ops.dequantize_accumulator(
            a.acc, a.x_qparams, a.weight_scale, a.weight_sum, self.bias, self.correction,
            self.residual, activation=self.activation,
        )  # fmt: skip


def _tail(rewriter: Rewriter, y: Any) -> _Tail | None:
    """Walk back from a value to its accumulator."""
    value, activation = rewriter.value(y), "none"
    bias, correction, residual = None, None, None
    if is_call(value, "probq.activation"):
        activation, value = str(value.attrs["kind"]), rewriter.value(value.args[0])
    while is_call(value, "add"):
        branch, other = _branch(rewriter, value)
        if branch is None:
            return None
        operand = rewriter.value(other)
        if is_constant(operand):
            flat = constant_value(operand).reshape(-1)
            bias = flat if bias is None else bias + flat
        elif is_call(operand, "probq.dequantize") and residual is None:
            residual = (operand.args[0], operand.args[1])
        elif is_call(operand, "reshape") and correction is None:
            correction = operand.args[0]
        else:
            return None
        value = branch
    if not is_call(value, "probq.dequantize_accumulator"):
        return None
    start = ops.AccumulatorArgs.from_call(value)
    if start.correction is not None or start.residual is not None or start.activation != "none":
        return None
    channels = shape_of(start.acc)[-1]
    if bias is not None and bias.size != channels:
        return None
    new_bias = start.bias if bias is None else constant(bias)
    return _Tail(start, new_bias, correction, residual, activation)


def _branch(rewriter: Rewriter, add: Call) -> tuple[Any, Any]:
    """The operand that leads to an accumulator, and the other one."""
    for index in (0, 1):
        value = rewriter.value(add.args[index])
        if _leads_to_accumulator(rewriter, value):
            return value, add.args[1 - index]
    return None, None


def _leads_to_accumulator(rewriter: Rewriter, value: Any) -> bool:
    while is_call(value, "add"):
        value = next(
            (v for v in map(rewriter.value, value.args) if is_call(v, "add", *_ENDS)), None
        )
    return is_call(value, *_ENDS)


_ENDS = ("probq.dequantize_accumulator",)
