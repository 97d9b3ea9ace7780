"""Standard Relax operators in NumPy; those missing here are compiled one by one by TVM."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_probq.ir.expressions import ints
from tvm_probq.simulator.arithmetic import Array
from tvm_probq.simulator.convolution import conv2d, conv2d_transpose, matmul

Evaluate = Callable[[Any, list[Any]], Any]
FLOAT_OPS: dict[str, Evaluate] = {}


def evaluates(*names: str) -> Callable[[Evaluate], Evaluate]:
    """Register a function ``(call, argument values) -> value`` for operators."""

    def register(function: Evaluate) -> Evaluate:
        FLOAT_OPS.update({f"relax.{name}": function for name in names})
        return function

    return register


def _divide(a: Array, b: Array) -> Array:
    """Division; that of integers (shapes, in an ONNX graph) rounds towards zero."""
    quotient = np.true_divide(a, b)
    integers = a.dtype.kind in "iu" and b.dtype.kind in "iu"
    return np.trunc(quotient).astype(a.dtype) if integers else quotient


_BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": _divide,
    "maximum": np.maximum, "minimum": np.minimum, "power": np.power,
    "less": np.less, "greater": np.greater, "equal": np.equal,
}  # fmt: skip
_UNARY = {
    "nn.relu": lambda x: np.maximum(x, np.float32(0)), "exp": np.exp, "sqrt": np.sqrt,
    "tanh": np.tanh, "negative": np.negative, "isnan": np.isnan, "abs": np.abs,
    "nn.relu6": lambda x: np.clip(x, np.float32(0), np.float32(6)),
    "sigmoid": lambda x: (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32),
}  # fmt: skip


def _binary(function: Any) -> Evaluate:
    return lambda call, args: function(args[0], args[1])


def _unary(function: Any) -> Evaluate:
    return lambda call, args: function(args[0])


FLOAT_OPS.update({f"relax.{name}": _binary(f) for name, f in _BINARY.items()})
FLOAT_OPS.update({f"relax.{name}": _unary(f) for name, f in _UNARY.items()})


@evaluates("clip")
def _clip(call: Any, args: list[Any]) -> Array:
    x = args[0]
    low, high = (x.dtype.type(bound.value) for bound in call.args[1:3])
    clipped: Array = np.clip(x, low, high)
    return clipped


@evaluates("where")
def _where(call: Any, args: list[Any]) -> Array:
    chosen: Array = np.where(args[0], args[1], args[2])
    return chosen


@evaluates("nn.conv2d")
def _conv2d(call: Any, args: list[Any]) -> Array:
    x, w, a = args[0], args[1], call.attrs
    channels_first = a.data_layout == "NCHW"
    if channels_first:
        x = x.transpose(0, 2, 3, 1)
    if a.kernel_layout == "OIHW":
        w = w.transpose(0, 2, 3, 1)
    pads = ints(a.padding)
    out = conv2d(x, w, ints(a.strides), pads, ints(a.dilation), int(a.groups))  # type: ignore[arg-type]
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2)) if channels_first else out


@evaluates("nn.conv2d_transpose")
def _conv2d_transpose(call: Any, args: list[Any]) -> Array:
    x, w, a = args[0], args[1], call.attrs
    first = str(a.data_layout) == "NCHW"
    (kh, kw), groups, shape = w.shape[2:], int(a.groups), ints(call.ty.shape)
    y = conv2d_transpose(
        x.transpose(0, 2, 3, 1) if first else x,
        w.reshape(groups, w.shape[0] // groups, w.shape[1], kh, kw),
        ints(a.strides), ints(a.padding)[:2], ints(a.dilation),  # type: ignore[arg-type]
        shape[2:] if first else shape[1:3],  # type: ignore[arg-type]
    )  # fmt: skip
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if first else y


@evaluates("matmul")
def _matmul(call: Any, args: list[Any]) -> Array:
    if args[1].ndim == 2:
        return matmul(args[0], args[1])
    product: Array = np.matmul(args[0], args[1])
    return product


@evaluates("mean")
def _mean(call: Any, args: list[Any]) -> Array:
    mean: Array = args[0].mean(_axes(call), dtype=np.float32, keepdims=bool(call.attrs.keepdims))
    return mean


@evaluates("sum")
def _sum(call: Any, args: list[Any]) -> Array:
    total: Array = args[0].sum(_axes(call), keepdims=bool(call.attrs.keepdims))
    return total.astype(args[0].dtype)


def _axes(call: Any) -> tuple[int, ...] | None:
    return None if call.attrs.axis is None else ints(call.attrs.axis)


@evaluates("reshape", "flatten", "squeeze", "expand_dims")
def _reshape(call: Any, args: list[Any]) -> Array:
    reshaped: Array = args[0].reshape(ints(call.ty.shape))
    return reshaped


@evaluates("permute_dims")
def _permute(call: Any, args: list[Any]) -> Array:
    axes = None if call.attrs.axes is None else ints(call.attrs.axes)
    return np.ascontiguousarray(np.transpose(args[0], axes))


@evaluates("concat")
def _concat(call: Any, args: list[Any]) -> Array:
    return np.concatenate(args[0], int(call.attrs.axis))


@evaluates("stack")
def _stack(call: Any, args: list[Any]) -> Array:
    stacked: Array = np.stack(args[0], int(call.attrs.axis))
    return stacked


@evaluates("broadcast_to")
def _broadcast(call: Any, args: list[Any]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(args[0], ints(call.ty.shape)))


@evaluates("astype")
def _astype(call: Any, args: list[Any]) -> Array:
    cast: Array = args[0].astype(str(call.attrs.dtype))
    return cast


@evaluates("strided_slice")
def _slice(call: Any, args: list[Any]) -> Array:
    axes, begin, end = (_tuple_ints(a) for a in call.args[1:4])
    strides = _tuple_ints(call.args[4]) if len(call.args) > 4 else (1,) * len(axes)
    index = [slice(None)] * args[0].ndim
    for axis, low, high, step in zip(axes, begin, end, strides, strict=True):
        index[axis] = slice(low, high, step)
    return np.ascontiguousarray(args[0][tuple(index)])


@evaluates("take")
def _take(call: Any, args: list[Any]) -> Array:
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    mode: Any = "wrap" if str(call.attrs.mode) == "wrap" else "clip"  # "fast" promises an index
    taken: Array = np.take(args[0], args[1], axis, mode=mode)
    return taken


@evaluates("shape_of")
def _shape_of(_call: Any, args: list[Any]) -> tuple[int, ...]:
    return tuple(args[0].shape)


@evaluates("shape_to_tensor")
def _shape_to_tensor(_call: Any, args: list[Any]) -> Array:
    return np.array(args[0], np.int64)


def _tuple_ints(value: Any) -> tuple[int, ...]:
    return tuple(int(getattr(v, "value", v)) for v in value)


_PAD_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@evaluates("nn.pad")
def _pad(call: Any, args: list[Any]) -> Array:
    width = ints(call.attrs.pad_width)
    pairs = list(zip(width[::2], width[1::2], strict=True))
    if str(call.attrs.pad_mode) != "constant":
        return np.pad(args[0], pairs, mode=_PAD_MODES[str(call.attrs.pad_mode)])
    return np.pad(args[0], pairs, constant_values=args[0].dtype.type(call.attrs.pad_value))


@evaluates("nn.max_pool2d")
def _max_pool(call: Any, args: list[Any]) -> Array:
    if str(call.attrs.layout) == "NCHW":
        height, width = ints(call.ty.shape)[2:]
        pooled = _windows(args[0].transpose(0, 2, 3, 1), call.attrs)[:, :height, :width]
        return np.ascontiguousarray(pooled.max((-2, -1)).transpose(0, 3, 1, 2))
    height, width = ints(call.ty.shape)[1:3]  # with ceil_mode a window may lie in the border
    largest: Array = _windows(args[0], call.attrs)[:, :height, :width].max((-2, -1))
    return largest


@evaluates("nn.avg_pool2d")
def _avg_pool(call: Any, args: list[Any]) -> Array:
    axes = (2, 3) if str(call.attrs.layout) == "NCHW" else (1, 2)
    x, attrs = np.moveaxis(args[0], axes, (1, 2)), call.attrs
    size = [ints(call.ty.shape)[axis] for axis in axes]
    rows, columns = (_held(attrs, place, x.shape[1 + place], size[place]) for place in range(2))
    means = np.zeros((x.shape[0], *size, x.shape[3]), np.float32)
    for i, (down, height) in enumerate(rows):
        for j, (right, width) in enumerate(columns):
            held = x[:, down][:, :, right].sum((1, 2), dtype=np.float32)
            means[:, i, j] = held / np.float32(max(height * width, 1))
    return np.ascontiguousarray(np.moveaxis(means, (1, 2), axes))


def _held(attrs: Any, place: int, extent: int, count: int) -> list[tuple[Array, int]]:
    """The rows (or columns) that each window averages, and how many count."""
    kernel, stride, dilation = (
        ints(a)[place] for a in (attrs.pool_size, attrs.strides, attrs.dilation)
    )
    before, after = ints(attrs.padding)[place::2]
    held = []
    for i in range(count):
        at = i * stride - before + dilation * np.arange(kernel)
        inside = at[(at >= 0) & (at < extent)]
        counted = ((at >= -before) & (at < extent + after)).sum()
        held.append((inside, int(counted) if attrs.count_include_pad else len(inside)))
    return held


def _windows(x: Array, attrs: Any) -> Array:
    """Windows ``[N, OH, OW, C, KH, KW]`` of an NHWC tensor, borders filled with the least value."""
    (kh, kw), (sh, sw) = ints(attrs.pool_size), ints(attrs.strides)
    dh, dw = ints(attrs.dilation)
    top, left, bottom, right = ints(attrs.padding)
    fill = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    if attrs.ceil_mode:
        bottom, right = bottom + sh - 1, right + sw - 1
    x = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)], constant_values=fill)
    span = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    return view[:, ::sh, ::sw, :, ::dh, ::dw]


@evaluates("nn.softmax")
def _softmax(call: Any, args: list[Any]) -> Array:
    axis = int(call.attrs.axis)
    e = np.exp(args[0] - args[0].max(axis, keepdims=True))
    normalized: Array = e / e.sum(axis, keepdims=True)
    return normalized


@evaluates("nn.batch_norm")
def _batch_norm(call: Any, args: list[Any]) -> tuple[Array, Array, Array]:
    x, gamma, beta, mean, var = args
    axis = int(call.attrs.axis) % x.ndim
    moving = mean, var
    if call.attrs.training:
        others = tuple(a for a in range(x.ndim) if a != axis)
        mean, var = x.mean(others), x.var(others)
        share = np.float32(call.attrs.momentum)
        moving = (1 - share) * moving[0] + share * mean, (1 - share) * moving[1] + share * var
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    scale = gamma / np.sqrt(var + np.float32(call.attrs.epsilon))
    y = x * scale.reshape(shape) + (beta - mean * scale).reshape(shape)
    return y.astype(np.float32), *moving
