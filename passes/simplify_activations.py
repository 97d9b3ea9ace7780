"""Recognize activations, also in their decomposed forms."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import (
    constant_value,
    is_call,
    is_constant,
    is_tensor,
    op_name,
    shape_of,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite

# Operators that are activations by themselves, by what we call them.
SMOOTH = {"sigmoid": "sigmoid", "tanh": "tanh", "nn.silu": "silu", "nn.gelu": "gelu"}


@tvm.transform.module_pass(opt_level=0, name="probq.SimplifyActivations")
class SimplifyActivations:
    """Give every activation that layers can end with one form, ``R.probq.activation``.

    Before::

        lv1 = R.minimum(R.maximum(lv, R.const(0.0)), R.const(6.0))
        lv4 = R.multiply(lv, R.divide(R.clip(R.add(lv, R.const(3.0)), 0, 6), R.const(6.0)))

    After::

        lv1 = R.probq.activation(lv, kind="clip(0.0,6.0)")
        lv4 = R.probq.activation(lv, kind="hard_swish")

    Holds before: constants are folded.  Holds after: a clip, a leaky ReLU, a hard
    activation, sigmoid, tanh, SiLU and GELU is one operator each.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    if not is_tensor(old) or str(old.ty.dtype) != "float32" or len(shape_of(old)) < 2:
        return None  # no tensor of samples with channels
    if (bounds := _bounds(rewriter, new)) and shape_of(bounds[0]) == shape_of(old):
        return _clip(rewriter, *bounds)
    if is_call(new, "nn.leakyrelu"):
        return _leaky(new)
    if is_call(new, *SMOOTH):
        return ops.activation(new.args[0], kind=SMOOTH[op_name(new).removeprefix("relax.")])
    if not is_call(new, "multiply", "divide"):
        return None
    found = (form(rewriter, new) for form in (_hard_swish, _silu, _gelu, _scaled_gate))
    return next((activation for activation in found if activation is not None), None)


def _silu(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """``x * sigmoid(x)``, in either order."""
    if not is_call(call, "multiply"):
        return None
    for x, gate in (call.args, reversed(call.args)):
        if _is_activation_of(rewriter, gate, x, "sigmoid"):
            return ops.activation(x, kind="silu")
    return None


def _gelu(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """``x * (1 + erf(x / sqrt(2))) / 2``, the factors in any order."""
    found, number = _factors(rewriter, call)
    if len(found) != 2 or not np.isclose(number, 0.5, rtol=1e-6):
        return None
    for x, gate in (found, found[::-1]):
        source = _error_function_of(rewriter, gate)
        if source is not None and source.same_as(x):
            return ops.activation(x, kind="gelu")
    return None


def _factors(rewriter: Rewriter, x: Any) -> tuple[list[Any], float]:
    """Tensors that a product multiplies, and the number it multiplies them by."""
    value = rewriter.value(x)
    if not is_call(value, "multiply", "divide"):
        return [x], 1.0
    tensor, scalar = _operand_and_scalar(rewriter, value)
    if scalar is not None:
        found, number = _factors(rewriter, tensor)
        return found, number * (scalar if is_call(value, "multiply") else 1.0 / scalar)
    if is_call(value, "divide"):
        return [x], 1.0
    (a, first), (b, second) = (_factors(rewriter, arg) for arg in value.args)
    return [*a, *b], first * second


def _error_function_of(rewriter: Rewriter, gate: Any) -> Any:
    """x of ``1 + erf(x / sqrt(2))``."""
    shifted = rewriter.value(gate)
    if not is_call(shifted, "add"):
        return None
    erf, one = _operand_and_scalar(rewriter, shifted)
    erf = rewriter.value(erf)
    if one != 1.0 or not is_call(erf, "erf"):
        return None
    found, number = _factors(rewriter, erf.args[0])
    return found[0] if len(found) == 1 and np.isclose(number, 0.5**0.5, rtol=1e-4) else None


def _bounds(rewriter: Rewriter, call: Call) -> tuple[Any, float, float] | None:
    """Operand, low and high of a call that bounds its operand."""
    if is_call(call, "nn.relu"):
        return call.args[0], 0.0, np.inf
    if is_call(call, "nn.relu6"):
        return call.args[0], 0.0, 6.0
    if is_call(call, "clip"):
        low, high = (float(bound.value) for bound in call.args[1:3])
        return call.args[0], min(low, high), high
    if is_call(call, "maximum", "minimum"):
        x, bound = _operand_and_scalar(rewriter, call)
        if bound is None or np.isnan(bound):
            return None
        return (x, bound, np.inf) if is_call(call, "maximum") else (x, -np.inf, bound)
    return None


def _clip(rewriter: Rewriter, x: Any, low: float, high: float) -> relax.Expr:
    """A clip of a clip is one clip; a clip of ``x + 3`` after scaling may be a hard sigmoid."""
    inner = rewriter.value(x)
    if is_call(inner, "probq.activation"):
        before = ops.parse_activation(str(inner.attrs["kind"]))
        if before.kind == "clip":
            x = inner.args[0]
            low, high = (float(np.clip(b, low, high)) for b in (before.low, before.high))
    if (low, high) == (0.0, 1.0):
        sigmoid = _hard_sigmoid(rewriter, x)
        if sigmoid is not None:
            return sigmoid
    return ops.activation(x, kind=f"clip({low!r},{high!r})")


def _leaky(call: Call) -> relax.Expr | None:
    """A slope of 0 is a ReLU; one that is not between 0 and 1 has no form here."""
    slope = float(str(np.float32(call.attrs.alpha)))  # 0.1, not its float32 in decimals
    if slope == 0.0:
        return ops.activation(call.args[0], kind="clip(0.0,inf)")
    if not 0.0 < slope < 1.0:
        return None
    return ops.activation(call.args[0], kind=f"leaky({slope!r})")


def _hard_sigmoid(rewriter: Rewriter, x: Any) -> relax.Expr | None:
    """``clip(x / 6 + 0.5, 0, 1)``, ONNX HardSigmoid with alpha 1/6 and beta 0.5."""
    shifted = rewriter.value(x)
    if not is_call(shifted, "add"):
        return None
    scaled, half = _operand_and_scalar(rewriter, shifted)
    scaled = rewriter.value(scaled)
    if half != 0.5 or not is_call(scaled, "multiply", "divide"):
        return None
    source, factor = _operand_and_scalar(rewriter, scaled)
    wanted = 1 / 6 if is_call(scaled, "multiply") else 6.0
    if factor is None or not np.isclose(factor, wanted, rtol=1e-6):
        return None
    return ops.activation(source, kind="hard_sigmoid")


def _hard_swish(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """``x * clip(x + 3, 0, 6) / 6``, in either order, or ``x * hard_sigmoid(x)``."""
    if is_call(call, "divide"):
        product, six = _operand_and_scalar(rewriter, call)
        product = rewriter.value(product)
        if six != 6.0 or not is_call(product, "multiply"):
            return None
        pairs = (product.args, reversed(product.args))
        found = [x for x, gate in pairs if _gated(rewriter, gate, x)]
    else:
        found = [
            x
            for x, gate in (call.args, reversed(call.args))
            if _is_activation_of(rewriter, gate, x, "hard_sigmoid")
        ]
    return ops.activation(found[0], kind="hard_swish") if found else None


def _is_activation_of(rewriter: Rewriter, gate: Any, x: Any, kind: str) -> bool:
    value = rewriter.value(gate)
    if is_call(value, "probq.activation") and str(value.attrs["kind"]) == kind:
        return bool(value.args[0].same_as(x))
    return False


def _scaled_gate(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """``clip(x + 3, 0, 6) / 6`` is a hard sigmoid."""
    gate, factor = _operand_and_scalar(rewriter, call)
    wanted = 6.0 if is_call(call, "divide") else 1 / 6
    if factor is None or not np.isclose(factor, wanted, rtol=1e-6):
        return None
    source = _gate_source(rewriter, gate)
    return None if source is None else ops.activation(source, kind="hard_sigmoid")


def _gated(rewriter: Rewriter, gate: Any, x: Any) -> bool:
    source = _gate_source(rewriter, gate)
    return source is not None and bool(source.same_as(x))


def _gate_source(rewriter: Rewriter, gate: Any) -> Any:
    """x of ``clip(x + 3, 0, 6)``."""
    value = rewriter.value(gate)
    if not is_call(value, "probq.activation") or str(value.attrs["kind"]) != "clip(0.0,6.0)":
        return None
    shifted = rewriter.value(value.args[0])
    if not is_call(shifted, "add"):
        return None
    source, three = _operand_and_scalar(rewriter, shifted)
    return source if three == 3.0 else None


def _operand_and_scalar(rewriter: Rewriter, call: Call) -> tuple[Any, float | None]:
    """The tensor and the scalar constant of a binary call, None where there is no such constant."""
    first, second = call.args
    for x, other in ((first, second), (second, first)):
        value = rewriter.value(other)
        if is_constant(value) and constant_value(value).size == 1:
            return x, float(constant_value(value).reshape(()))
        if is_call(call, "divide"):
            value = rewriter.value(second)
            break
    return first, None
