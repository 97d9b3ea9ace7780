"""Keep codes through operators that move values; pools, sums, products, joins work on codes too."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, ints, is_call, shape_of
from tvm_probq.ir.layers import is_clip, is_global_pool, moves_codes, operands
from tvm_probq.ir.pooling import counted_padding, is_average_pool, pooled_windows
from tvm_probq.ir.resizing import is_resize, resize_taps
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.surrogate.wide_codes import is_wide, moves_wide_codes

TO_LAST = (0, 2, 3, 1)


@tvm.transform.module_pass(opt_level=0, name="probq.PropagateQuantized")
class PropagateQuantized:
    """Replace float operators between a dequantize and a quantize by operators on codes.

    Before::

        lv = R.mean(R.probq.dequantize(q, qp), axis=[1, 2])
        q1 = R.probq.quantize(lv, qp1)
        lv2 = R.nn.max_pool2d(R.probq.dequantize(q2, qp2))

    After::

        q1 = R.probq.global_avg_pool(q, qp, qp1)
        q3 = R.nn.max_pool2d(q2)
        lv2 = R.probq.dequantize(q3, qp2)

    Matrix products of two tensors become ``R.probq.matmul``, and codes that are quantized again
    under other parameters ``R.probq.rescale``.

    Holds before: nothing.  Holds after: sums, products, joins, global pooling and operators that
    move values work on codes wherever their operands are codes.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    if is_call(new, "probq.quantize"):
        return _quantize(rewriter, new)
    if is_call(new, "matmul"):
        return _matmul(rewriter, new)
    if is_call(new, "permute_dims"):
        transposed = _transposed_quantize(rewriter, new)
        if transposed is not None:
            return transposed
    return move_codes(rewriter, new)


def move_codes(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Dequantize after, not before, an operator that only moves values."""
    if not moves_codes(call) and not is_clip(call):
        return None
    source = rewriter.value(call.args[0])
    if not is_call(source, "probq.dequantize"):
        return None
    codes, qparams = source.args
    if is_wide(codes) and not moves_wide_codes(call):
        return None
    if is_clip(call):
        moved = ops.clip(codes, qparams, activation=str(call.attrs["kind"]))
        return ops.dequantize(rewriter.emit(moved), qparams)
    if shape_of(qparams)[2] != 1:
        return None
    if is_call(call, "nn.pad"):
        moved = ops.pad(codes, qparams, pad_width=ints(call.attrs.pad_width))
    elif is_resize(call):
        tables = [t for axis in resize_taps(call) for t in (axis.index, axis.weight)]
        moved = ops.resize(codes, *map(constant, tables))
    elif is_average_pool(call):
        moved = _average(rewriter, call, codes, qparams)
    else:
        moved = Call(call.op, [codes, *call.args[1:]], call.attrs, call.ty_args)
    return ops.dequantize(rewriter.emit(moved), qparams)


def _average(rewriter: Rewriter, call: Call, codes: Any, qparams: Any) -> Call:
    """Means of windows, of a padded image where the padding counts."""
    top, left, bottom, right = counted_padding(call)
    if top + left + bottom + right:
        width = [0, 0, top, bottom, left, right, 0, 0]
        codes = rewriter.emit(ops.pad(codes, qparams, pad_width=width))
    return ops.avg_pool(codes, *map(constant, pooled_windows(call)))


def _transposed_quantize(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Quantizing an NCHW input writes NHWC at once."""
    source = rewriter.value(call.args[0])
    if is_call(source, "probq.layer"):
        inner = rewriter.value(source.args[0])
        moved = _nhwc(inner, call)
        if moved is None:
            return None
        a = source.attrs
        marker = {k: str(a[k]) for k in ("name", "kind", "reason")}
        return ops.layer(rewriter.emit(moved), **marker)
    return _nhwc(source, call)


def _nhwc(quantize: Any, call: Call) -> Call | None:
    if not is_call(quantize, "probq.quantize") or call.attrs.axes is None:
        return None
    if ints(call.attrs.axes) != TO_LAST or str(quantize.attrs["layout"]) != "NHWC":
        return None
    return ops.quantize(*quantize.args, layout="NCHW", qmax=ops.largest_code(quantize))


def _quantize(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    value, qparams = rewriter.value(call.args[0]), call.args[1]
    if ops.largest_code(call) > ops.MAX_CODE:
        return None
    if is_call(value, "probq.dequantize"):
        return ops.rescale(value.args[0], value.args[1], qparams)
    if is_call(value, "mean"):
        return _global_pool(rewriter, value, qparams)
    if is_call(value, "concat"):
        return _concat(rewriter, value, qparams)
    if is_call(value, "probq.matmul"):
        a, a_qparams, b, b_qparams = value.args
        return ops.matmul(a, a_qparams, b, b_qparams, qparams)
    return _elementwise(rewriter, value, qparams)


def _codes(rewriter: Rewriter, x: Any) -> tuple[Any, Any] | None:
    value = rewriter.value(x)
    found = is_call(value, "probq.dequantize") and not is_wide(value.args[0])
    return (value.args[0], value.args[1]) if found else None


def _global_pool(rewriter: Rewriter, mean: Call, qparams: Any) -> relax.Expr | None:
    pair = _codes(rewriter, mean.args[0])
    if pair is None or not is_global_pool(mean):
        return None
    pooled = ops.global_avg_pool(*pair, qparams)
    if not mean.attrs.keepdims:
        return pooled
    return relax.op.reshape(rewriter.emit(pooled), shape_of(mean))


def _concat(rewriter: Rewriter, concat: Call, qparams: Any) -> relax.Expr | None:
    pairs = [_codes(rewriter, f) for f in rewriter.value(concat.args[0]).fields]
    if any(p is None for p in pairs) or int(concat.attrs.axis) % len(shape_of(concat)) == 0:
        return None
    rescaled = [rewriter.emit(ops.rescale(*p, qparams)) for p in pairs if p is not None]
    return ops.concat(rescaled, axis=int(concat.attrs.axis) % len(shape_of(concat)))


def _matmul(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A product of codes; `_quantize` has it write codes too."""
    a, b = _codes(rewriter, call.args[0]), _codes(rewriter, call.args[1])
    if a is None or b is None or len(shape_of(a[0])) != 4:
        return None
    return ops.matmul(a[0], a[1], b[0], b[1])


def _elementwise(rewriter: Rewriter, value: Any, qparams: Any) -> relax.Expr | None:
    """``quantize(activation(a + b))``, or of a product, of two stored tensors."""
    activation = "none"
    if is_call(value, "probq.activation"):
        activation = str(value.attrs["kind"])
        value = rewriter.value(value.args[0])
    both = operands(value)
    if both is None or not ops.parse_activation(activation).linear:
        return None
    pairs = [_codes(rewriter, x) for x in both]
    if any(p is None for p in pairs):
        return None
    (a, a_qparams), (b, b_qparams) = [p for p in pairs if p is not None]
    make = ops.add if is_call(value, "add") else ops.multiply
    return make(a, a_qparams, b, b_qparams, qparams, activation=activation)
