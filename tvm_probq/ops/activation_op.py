"""The float operator an activation has before its layer is quantized."""

from typing import Any

from tvm import relax
from tvm.ir import Call

from tvm_probq.ops import checks
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.registry import make_call, register


def activation(x: relax.Expr, *, kind: str) -> Call:
    """Apply a clip, leaky ReLU, hard-swish or hard-sigmoid to float32 values.

    Parameters
    ----------
    x : relax.Expr
        float32, any shape.
    kind : str
        See :mod:`tvm_probq.ops.activation`.
    """
    parse_activation(kind)
    return make_call("activation", [x], kind=kind)


def _infer(call: Call) -> Any:
    checks.expect_count(call, 1)
    parse_activation(checks.attribute(call, "kind"))
    return call.args[0].ty


register("activation", _infer)
