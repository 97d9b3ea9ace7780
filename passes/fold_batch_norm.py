"""Fold batch normalization at inference, and scales of channels, into the product before it."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.arithmetic import Array

CONVOLUTIONS = ("nn.conv1d", "nn.conv2d", "nn.conv1d_transpose", "nn.conv2d_transpose")
DEPTHWISE = {3: (relax.op.nn.conv1d, "NCW"), 4: (relax.op.nn.conv2d, "NCHW")}


@tvm.transform.module_pass(opt_level=0, name="probq.FoldBatchNorm")
class FoldBatchNorm:
    """Scale the weights of a product and add a bias in place of a batch normalization.

    Before::

        lv = R.nn.conv2d(x, w)
        lv1 = R.nn.batch_norm(lv, gamma, beta, mean, var, axis=1, epsilon=1e-5)
        lv2 = lv1[0]
        lv3 = R.multiply(R.add(R.matmul(y, v), bias), gamma)

    After::

        lv = R.nn.conv2d(x, w * scale)
        lv2 = R.add(lv, shift)
        lv3 = R.add(R.matmul(y, v * gamma), bias * gamma)

    A normalization of an image that follows no convolution (or one with a further use), as behind
    the joins of a DenseNet, becomes a depthwise convolution of one tap, which can be done in
    integers; of the network's input, or of vectors, a multiplication and an addition.  Holds
    before: weights and statistics are constants (`FoldConstants`).  Holds after: no batch
    normalization with constant statistics remains.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if is_call(new, "nn.batch_norm"):
                return _fold(rewriter, old, new)
            if is_call(new, "multiply"):
                return _fold_scale(rewriter, old, new)
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
    product = _source(rewriter, x)
    if product is not None and rewriter.uses[old.args[0]] == 1 and _axis(product[0]) == axis:
        y, bias = _scaled(rewriter, product, scale)
        shift = shift + bias
    else:
        y = rewriter.emit(_by_channel(rewriter, x, scale, axis))
    y = rewriter.emit(relax.op.add(y, constant(_along(shift, x, axis))))
    return relax.Tuple([y, statistics[2], statistics[3]])


def _by_channel(rewriter: Rewriter, x: Any, scale: Array, axis: int) -> relax.Expr:
    """`x` with each channel scaled: a depthwise convolution, or a multiplication."""
    rank = len(shape_of(x))
    is_input = isinstance(rewriter.value(x), relax.Var)
    if rank not in DEPTHWISE or axis != 1 or is_input or str(x.ty.dtype) != "float32":
        return relax.op.multiply(x, constant(_along(scale, x, axis)))
    convolution, layout = DEPTHWISE[rank]
    weights = scale.reshape(-1, *[1] * (rank - 1)).astype(np.float32)
    return convolution(x, constant(weights), groups=len(scale), data_layout=layout)


def _fold_scale(rewriter: Rewriter, old: Call, call: Call) -> relax.Expr | None:
    """A product, with or without a bias, times one number a channel."""
    at = next((i for i, x in enumerate(call.args) if is_constant(rewriter.value(x))), None)
    if at is None or is_constant(rewriter.value(call.args[1 - at])):
        return None
    x, scale = call.args[1 - at], constant_value(rewriter.value(call.args[at]))
    product = _source(rewriter, x)
    if product is None or rewriter.uses[old.args[1 - at]] != 1:
        return None
    if scale.size == 1 or not _is_bias(scale, product[0]):
        return None
    y, bias = _scaled(rewriter, product, scale.reshape(-1).astype(np.float64))
    if not bias.any():
        return y
    return relax.op.add(y, constant(_along(bias, x, _axis(product[0]))))


def _source(rewriter: Rewriter, x: Any) -> tuple[Call, Array] | None:
    """The product with constant weights behind `x` and the bias between them."""
    value = rewriter.value(x)
    bias: Array = np.zeros(1)
    if is_call(value, "add") and is_constant(rewriter.value(value.args[1])):
        bias = constant_value(rewriter.value(value.args[1])).astype(np.float64)
        value = rewriter.value(value.args[0])
    if not is_call(value, *CONVOLUTIONS, "matmul"):
        return None
    weights = rewriter.value(value.args[1])
    if not is_constant(weights) or (is_call(value, "matmul") and len(shape_of(weights)) != 2):
        return None
    return (value, bias) if bias.size == 1 or _is_bias(bias, value) else None


def _axis(product: Call) -> int:
    """The axis of a product's output channels."""
    if is_call(product, "matmul"):
        return len(shape_of(product)) - 1
    return str(product.attrs.data_layout).index("C")


def _is_bias(values: Array, product: Call) -> bool:
    """Whether `values` broadcast along the channels of a product's output, and nothing else."""
    axis, shape = _axis(product), shape_of(product)
    wanted = tuple(d if a == axis else 1 for a, d in enumerate(shape))
    return (1,) * (len(shape) - values.ndim) + values.shape == wanted


def _scaled(
    rewriter: Rewriter, source: tuple[Call, Array], scale: Array
) -> tuple[relax.Expr, Array]:
    """A product with scaled weights, and its scaled bias."""
    product, bias = source
    weights = constant_value(rewriter.value(product.args[1]))
    new = constant((weights * _by_output(product, weights, scale)).astype(np.float32))
    call = Call(product.op, [product.args[0], new], product.attrs)
    return rewriter.emit(call), bias.reshape(-1) * scale


def _by_output(product: Call, weights: Array, scale: Array) -> Array:
    """`scale` of output channels, shaped like the weights."""
    if is_call(product, "matmul"):
        return scale
    layout = str(product.attrs.kernel_layout)
    axes = [-1 if axis == "O" else 1 for axis in layout]
    groups = int(product.attrs.groups)
    if layout[0] == "O" or groups == 1:
        return scale.reshape(axes)
    by_group = scale.reshape(groups, -1)  # IO..: each group's inputs see the group's outputs alone
    return np.repeat(by_group, weights.shape[0] // groups, 0).reshape(weights.shape[0], *axes[1:])


def _along(values: Array, x: relax.Expr, axis: int) -> Array:
    """Per-channel values shaped to broadcast along `axis` of `x`."""
    rank = len(shape_of(x))
    shape = [-1 if a == axis % rank else 1 for a in range(rank)]
    return np.broadcast_to(values, shape_of(x)[axis]).reshape(shape).astype(np.float32)
