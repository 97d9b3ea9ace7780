"""Fold batch normalization at inference into the convolution before it."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.arithmetic import Array


@tvm.transform.module_pass(opt_level=0, name="probq.FoldBatchNorm")
class FoldBatchNorm:
    """Scale the weights of a convolution and add a bias in place of a batch normalization.

    Before::

        lv = R.nn.conv2d(x, w)
        lv1 = R.nn.batch_norm(lv, gamma, beta, mean, var, axis=1, epsilon=1e-5)
        lv2 = lv1[0]

    After::

        lv = R.nn.conv2d(x, w * scale)
        lv2 = R.add(lv, shift)

    A normalization that follows no convolution (or one with a further use) becomes a multiplication
    and an addition.  Holds before: weights and statistics are constants (`FoldConstants`).  Holds
    after: no batch normalization with constant statistics remains.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if is_call(new, "nn.batch_norm"):
                return _fold(rewriter, old, new)
            return None

        return rewrite(mod, visit)


def _fold(rewriter: Rewriter, old: Call, call: Call) -> relax.Expr | None:
    statistics = [rewriter.value(a) for a in call.args[1:]]
    if call.attrs.training or not all(is_constant(s) for s in statistics):
        return None
    gamma, beta, mean, var = (constant_value(s).astype(np.float64) for s in statistics)
    scale = gamma / np.sqrt(var + float(call.attrs.epsilon))
    shift = beta - mean * scale
    x, axis = call.args[0], int(call.attrs.axis)
    if not call.attrs.scale:
        scale = 1.0 / np.sqrt(var + float(call.attrs.epsilon))
        shift = beta - mean * scale
    convolution = _source(rewriter, x)
    if convolution is not None and rewriter.uses[old.args[0]] == 1:
        y, shift = _scaled(rewriter, convolution, scale, shift)
    else:
        y = rewriter.emit(relax.op.multiply(x, constant(_along(scale, x, axis))))
    y = rewriter.emit(relax.op.add(y, constant(_along(shift, x, axis))))
    return relax.Tuple([y, statistics[2], statistics[3]])


def _source(rewriter: Rewriter, x: Any) -> tuple[Call, Array] | None:
    """The convolution with constant weights behind `x` and the bias between them."""
    value = rewriter.value(x)
    bias: Array = np.zeros(1)
    if is_call(value, "add") and is_constant(rewriter.value(value.args[1])):
        bias = constant_value(rewriter.value(value.args[1])).astype(np.float64)
        value = rewriter.value(value.args[0])
    if not (is_call(value, "nn.conv2d") and is_constant(rewriter.value(value.args[1]))):
        return None
    return (value, bias.reshape(-1)) if bias.size == 1 or _is_bias(bias, value) else None


def _is_bias(values: Array, convolution: Call) -> bool:
    """Whether `values` broadcast along the channels of a convolution's output, and nothing else."""
    axis = str(convolution.attrs.data_layout).index("C")
    wanted = tuple(d if a == axis else 1 for a, d in enumerate(shape_of(convolution)))
    return (1,) * (4 - values.ndim) + values.shape == wanted


def _scaled(
    rewriter: Rewriter, source: tuple[Call, Array], scale: Array, shift: Array
) -> tuple[relax.Expr, Array]:
    convolution, bias = source
    weights = constant_value(rewriter.value(convolution.args[1]))
    by_output = scale.reshape([-1 if axis == "O" else 1 for axis in _kernel_layout(convolution)])
    new = constant((weights * by_output).astype(np.float32))
    call = Call(convolution.op, [convolution.args[0], new], convolution.attrs)
    return rewriter.emit(call), shift + bias * scale


def _kernel_layout(convolution: Call) -> str:
    return str(convolution.attrs.kernel_layout)


def _along(values: Array, x: relax.Expr, axis: int) -> Array:
    """Per-channel values shaped to broadcast along `axis` of `x`."""
    rank = len(shape_of(x))
    shape = [-1 if a == axis % rank else 1 for a in range(rank)]
    return values.reshape(shape).astype(np.float32)
