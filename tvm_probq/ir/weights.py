"""Constant weights: float32, or codes with their scales."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant
from tvm_probq.ir.rewrite import Rewriter
from tvm_probq.simulator.arithmetic import Array


def is_coded(value: Any) -> bool:
    """Whether `value` is dequantized from constant codes."""
    return is_call(value, "probq.dequantize_weight") and is_constant(value.args[0])


def is_weights(value: Any) -> bool:
    """Whether `value` is a constant, or dequantized from one."""
    return is_constant(value) or is_coded(value)


def weights_value(value: Any) -> Array:
    """The real values of weights, of which `is_weights` is true."""
    if is_constant(value):
        return constant_value(value)
    codes, scale = (constant_value(arg) for arg in value.args)
    shape = [-1 if at == int(value.attrs["axis"]) else 1 for at in range(codes.ndim)]
    real: Array = codes.astype(np.float32) * scale.reshape(shape)
    return real


def rearranged(
    rewriter: Rewriter, value: Any, change: Callable[[Array], Array], axis: int = 0
) -> relax.Expr:
    """Weights after `change` of their layout, which puts output channels at `axis`.

    Codes stay codes, with the scales they have.
    """
    if is_constant(value):
        return constant(change(constant_value(value)))
    codes, scale = constant(change(constant_value(value.args[0]))), value.args[1]
    bits = int(value.attrs["bits"])
    return rewriter.emit(ops.dequantize_weight(codes, scale, axis=axis, bits=bits))
