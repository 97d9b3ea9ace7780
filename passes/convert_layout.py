"""Move the whole network to channels-last tensors."""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import (
    constant,
    constant_value,
    ints,
    is_call,
    is_constant,
    op_name,
    shape_of,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.ir.weights import is_weights, rearranged

TO_LAST = (0, 2, 3, 1)
TO_FIRST = (0, 3, 1, 2)


@tvm.transform.module_pass(opt_level=0, name="probq.ConvertLayout")
class ConvertLayout:
    """Rewrite NCHW convolutions, and whatever lies between them, to NHWC with OHWI weights.

    Before::

        lv = R.nn.conv2d(x, w, data_layout="NCHW", kernel_layout="OIHW")
        lv1 = R.nn.relu(lv)

    After::

        lv = R.permute_dims(x, axes=[0, 2, 3, 1])
        lv1 = R.nn.conv2d(lv, w, data_layout="NHWC", kernel_layout="OHWI")
        lv2 = R.nn.relu(lv1)
        lv3 = R.permute_dims(lv2, axes=[0, 3, 1, 2])

    Two permutations in a row become one, or none.  A shuffle of channels (reshape, permute_dims,
    reshape) splits the last axis instead of the second, and depth to space all three.  Tensors go
    back to NCHW only before an operator that has no channels-last form here.  Holds before: static
    shapes.  Holds after: every two-dimensional convolution and pooling is NHWC.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    convert = _CONVERTERS.get(op_name(new))
    if convert is None or not isinstance(new.ty, relax.TensorType):
        return None
    return convert(rewriter, new)


def _last(rewriter: Rewriter, x: Any) -> relax.Expr | None:
    """`x` channels last if that costs nothing: it was transposed from such a tensor."""
    value = rewriter.value(x)
    transposed = op_name(value) == "relax.permute_dims" and value.attrs.axes is not None
    return value.args[0] if transposed and ints(value.attrs.axes) == TO_FIRST else None


def _force_last(rewriter: Rewriter, x: Any) -> relax.Expr:
    last = _last(rewriter, x)
    return rewriter.emit(relax.op.permute_dims(x, TO_LAST)) if last is None else last


def _first(rewriter: Rewriter, y: relax.Expr) -> relax.Expr:
    """Back to NCHW; the next converter looks through it, unused ones are dropped."""
    return relax.op.permute_dims(rewriter.emit(y), TO_FIRST)


def _convolution(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    a = call.attrs
    if str(a.data_layout) != "NCHW" or str(a.kernel_layout) != "OIHW":
        return None
    weights = rewriter.value(call.args[1])
    if is_weights(weights):
        weights = rearranged(rewriter, weights, lambda oihw: oihw.transpose(TO_LAST))
    else:
        weights = rewriter.emit(relax.op.permute_dims(call.args[1], TO_LAST))
    y = relax.op.nn.conv2d(
        _force_last(rewriter, call.args[0]), weights, strides=a.strides, padding=a.padding,
        dilation=a.dilation, groups=a.groups, data_layout="NHWC", kernel_layout="OHWI",
    )  # fmt: skip
    return _first(rewriter, y)


def _transposed(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A transposed convolution of constant weights, which `SplitTransposed` takes on."""
    a = call.attrs
    if (str(a.data_layout), str(a.kernel_layout)) != ("NCHW", "IOHW"):
        return None
    if not is_constant(rewriter.value(call.args[1])):
        return None
    y = relax.op.nn.conv2d_transpose(
        _force_last(rewriter, call.args[0]), call.args[1], strides=a.strides, padding=a.padding,
        output_padding=a.output_padding, dilation=a.dilation, groups=a.groups,
        data_layout="NHWC", kernel_layout="IOHW",
    )  # fmt: skip
    return _first(rewriter, y)


def _pool(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    a = call.attrs
    if str(a.layout) != "NCHW":
        return None
    if is_call(call, "nn.avg_pool2d") and _pools_all(call):
        x = _force_last(rewriter, call.args[0])
        return _first(rewriter, relax.op.mean(x, [1, 2], keepdims=True))
    build = {
        "relax.nn.max_pool2d": relax.op.nn.max_pool2d,
        "relax.nn.avg_pool2d": relax.op.nn.avg_pool2d,
    }[op_name(call)]
    y = build(
        _force_last(rewriter, call.args[0]), a.pool_size, a.strides, a.padding, a.dilation,
        ceil_mode=a.ceil_mode, count_include_pad=a.count_include_pad, layout="NHWC",
    )  # fmt: skip
    return _first(rewriter, y)


def _pools_all(call: Call) -> bool:
    """Whether one window holds the whole image."""
    a = call.attrs
    one, plain = shape_of(call)[2:] == (1, 1), not any(ints(a.padding))
    return one and plain and ints(a.pool_size) == shape_of(call.args[0])[2:]


def _unary(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    x = _last(rewriter, call.args[0])
    if x is None:
        return None
    return _first(rewriter, Call(call.op, [x, *call.args[1:]], call.attrs))


def _binary(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Both operands move if one is free to and the other is free, constant or broadcast."""
    if all(_last(rewriter, x) is None for x in call.args):
        return None
    moved = [_moved_operand(rewriter, x) for x in call.args]
    if any(x is None for x in moved):
        return None
    return _first(rewriter, Call(call.op, moved, call.attrs))


def _moved_operand(rewriter: Rewriter, x: Any) -> relax.Expr | None:
    if (last := _last(rewriter, x)) is not None:
        return last
    value, shape = rewriter.value(x), shape_of(x)
    if not shape:
        return x
    if is_constant(value):
        array = constant_value(value)
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return constant(array.transpose(TO_LAST))
    return _force_last(rewriter, x) if len(shape) == 4 else None


def _reduction(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A reduction moves if its operand is free to; global pooling, as any pooling, always does."""
    x = _last(rewriter, call.args[0])
    if x is None and _is_global_pool(call):
        x = _force_last(rewriter, call.args[0])
    if x is None or call.attrs.axis is None:
        return None
    axes = [TO_FIRST[axis % 4] for axis in ints(call.attrs.axis)]
    build = {"relax.mean": relax.op.mean, "relax.sum": relax.op.sum, "relax.max": relax.op.max}
    y = build[op_name(call)](x, sorted(axes), bool(call.attrs.keepdims))
    if call.attrs.keepdims:
        return _first(rewriter, y)
    return y if len(set(axes) & {1, 2}) == 2 else None


def _is_global_pool(call: Call) -> bool:
    if not is_call(call, "mean") or call.attrs.axis is None or len(shape_of(call.args[0])) != 4:
        return False
    return sorted(axis % 4 for axis in ints(call.attrs.axis)) == [2, 3]


def _concat(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    fields = list(rewriter.value(call.args[0]).fields)
    if len(shape_of(call)) != 4 or all(_last(rewriter, f) is None for f in fields):
        return None
    axis = TO_FIRST[int(call.attrs.axis) % 4]
    y = relax.op.concat([_force_last(rewriter, f) for f in fields], axis)
    return _first(rewriter, y)


def _slice(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    x = _last(rewriter, call.args[0])
    if x is None:
        return None
    axes, begin, end = ([int(v.value) for v in a] for a in call.args[1:4])
    strides = [int(v.value) for v in call.args[4]] if len(call.args) > 4 else None
    moved = [TO_FIRST[a % 4] for a in axes]
    return _first(rewriter, relax.op.strided_slice(x, moved, begin, end, strides))


def _pad(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    x = _last(rewriter, call.args[0])
    if x is None or str(call.attrs.pad_mode) != "constant":
        return None
    width = ints(call.attrs.pad_width)
    moved = [w for axis in TO_LAST for w in width[2 * axis : 2 * axis + 2]]
    return _first(rewriter, relax.op.nn.pad(x, moved, pad_value=float(call.attrs.pad_value)))


def _resize(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    x, a = _last(rewriter, call.args[0]), call.attrs
    if x is None or str(a.layout) != "NCHW":
        return None
    y = relax.op.image.resize2d(
        x, call.args[1], list(a.roi), "NHWC", a.method, a.coordinate_transformation_mode,
        a.rounding_method, a.cubic_alpha, a.cubic_exclude, a.extrapolation_value,
    )  # fmt: skip
    return _first(rewriter, y)


def _reshape(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Flattening ``[N, C, 1, 1]`` needs no transpose, nor does the end of a shuffle."""
    x = _last(rewriter, call.args[0])
    shape = shape_of(call)
    if x is None:
        return _shuffle(rewriter, call)
    if shape_of(x)[1:3] != (1, 1) or len(shape) != 2:
        return None
    return relax.op.reshape(x, shape)


def _shuffle(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Channels, rows and columns split into factors, permuted and joined again.

    A shuffle of channels permutes theirs; between depth and space, some change places.
    """
    permute = rewriter.value(call.args[0])
    if not is_call(permute, "permute_dims") or permute.attrs.axes is None:
        return None
    split = rewriter.value(permute.args[0])
    x = _last(rewriter, split.args[0]) if is_call(split, "reshape") else None
    shape, axes = shape_of(call), ints(permute.attrs.axes)
    if x is None or len(shape) != 4 or axes[0] != 0 or shape[0] != shape_of(x)[0]:
        return None
    before = _runs(shape_of(split), shape_of(split.args[0]))
    after = _runs(shape_of(permute), shape)
    if before is None or after is None:
        return None
    old = [0, *(axis for run in (1, 2, 0) for axis in before[run])]
    new = [0, *(old.index(axes[axis]) for run in (1, 2, 0) for axis in after[run])]
    y = rewriter.emit(relax.op.reshape(x, [shape_of(split)[axis] for axis in old]))
    y = rewriter.emit(relax.op.permute_dims(y, new))
    return _first(rewriter, relax.op.reshape(y, [shape[axis] for axis in TO_LAST]))


def _runs(factors: tuple[int, ...], shape: tuple[int, ...]) -> list[range] | None:
    """Which dimensions of `factors` make channels, rows and columns of an NCHW `shape`."""
    runs, at = [], 1
    if factors[0] != shape[0]:
        return None
    for extent in shape[1:]:
        start, product = at, 1
        while product < extent and at < len(factors):
            product, at = product * factors[at], at + 1
        if product != extent:
            return None
        runs.append(range(start, at))
    runs[-1] = range(runs[-1].start, len(factors))  # what is left are ones
    return runs


def _permute(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """``[N, C, H, W]`` to ``[N, H W, C]``, the form of a detector's outputs, is a reshape.

    Two permutations are one, or none.
    """
    if call.attrs.axes is not None and ints(call.attrs.axes) == TO_LAST:
        return _last(rewriter, call.args[0])
    flat = rewriter.value(call.args[0])
    if is_call(flat, "permute_dims"):
        return _composed(flat, call)
    x = _last(rewriter, flat.args[0]) if is_call(flat, "reshape") else None
    if x is None or call.attrs.axes is None or ints(call.attrs.axes) != (0, 2, 1):
        return None
    n, height, width, channels = shape_of(x)
    if shape_of(flat) != (n, channels, height * width):
        return None
    return relax.op.reshape(x, shape_of(call))


def _composed(first: Call, second: Call) -> relax.Expr:
    """One permutation for two, or what they leave as it was."""
    inner, outer = (_axes(permute) for permute in (first, second))
    axes = tuple(inner[axis] for axis in outer)
    x = first.args[0]
    return x if axes == tuple(range(len(axes))) else relax.op.permute_dims(x, axes)


def _axes(permute: Call) -> tuple[int, ...]:
    rank = len(shape_of(permute))
    if permute.attrs.axes is None:
        return tuple(range(rank))[::-1]
    return tuple(axis % rank for axis in ints(permute.attrs.axes))


Converter = Callable[[Rewriter, Call], relax.Expr | None]
_CONVERTERS: dict[str, Converter] = {
    "relax.nn.conv2d": _convolution,
    "relax.nn.conv2d_transpose": _transposed,
    "relax.nn.max_pool2d": _pool,
    "relax.nn.avg_pool2d": _pool,
    "relax.concat": _concat,
    "relax.strided_slice": _slice,
    "relax.nn.pad": _pad,
    "relax.reshape": _reshape,
    "relax.permute_dims": _permute,
    "relax.image.resize2d": _resize,
    **{f"relax.{n}": _reduction for n in ("mean", "sum", "max")},
    **{f"relax.{n}": _binary for n in ("add", "subtract", "multiply", "divide")},
    **{f"relax.{n}": _binary for n in ("maximum", "minimum")},
    **{f"relax.{n}": _unary for n in ("probq.activation", "nn.relu", "clip", "sigmoid", "tanh")},
    **{f"relax.probq.{n}": _unary for n in ("quantize", "dequantize")},
    **{f"relax.{n}": _unary for n in ("exp", "sqrt", "negative", "nn.silu", "nn.leakyrelu")},
}
