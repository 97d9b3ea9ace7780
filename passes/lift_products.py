"""Make images of one row of all that products with constant weights read or write."""

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
    is_tensor,
    shape_of,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.ir.weights import is_weights, rearranged

IMAGE_RANK = 4
SWAP = (0, 2, 1)


@tvm.transform.module_pass(opt_level=0, name="probq.LiftProducts")
class LiftProducts:
    """Write products over many positions, and convolutions along one axis, as those of images.

    Before::

        lv = R.matmul(x, w)  # x [N, T, C]
        lv1 = R.add(lv, bias)

    After::

        lv = R.reshape(x, R.shape([N, 1, T, C]))
        lv1 = R.nn.conv2d(lv, w_ohwi, data_layout="NHWC", kernel_layout="OHWI")
        lv2 = R.add(lv1, bias)
        lv3 = R.reshape(lv2, R.shape([N, T, O]))

    The first dimension is that of the samples; all others but the channels are positions, over
    which a layer has one range.  Bias, residual and activation stay next to the convolution.  A
    product ``[N, M, K] @ [N, K, P]`` of two tensors gets a dimension of one head.  Pooling along
    one axis, and the mean over it, are those of images too.  Holds before: `ConvertLayout`.  Holds
    after: a product with a constant matrix is a convolution, or its operand has rank 2.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    if not is_tensor(new):
        return None
    if is_call(new, "matmul"):
        return _product(rewriter, new)
    if is_call(new, "nn.conv1d"):
        return _convolution(rewriter, new)
    if is_call(new, "nn.conv1d_transpose"):
        return _transposed(rewriter, new)
    if is_call(new, "nn.max_pool1d", "nn.avg_pool1d"):
        return _pool(rewriter, new)
    if is_call(new, "mean"):
        return _mean(rewriter, new)
    if is_call(new, "add"):
        return _sum(rewriter, new)
    if is_call(new, "probq.activation", "probq.quantize"):
        return _unary(rewriter, new)
    return None


def _product(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    weights = rewriter.value(call.args[1])
    if len(shape_of(call)) <= 2 or str(call.ty.dtype) != "float32":
        return None
    if not is_weights(weights):
        return _pair(rewriter, call)
    if len(shape_of(weights)) != 2:
        return None
    ohwi = rearranged(rewriter, weights, lambda matrix: matrix.T[:, None, None, :])
    product = relax.op.nn.conv2d(
        _rows(rewriter, call.args[0]), ohwi, data_layout="NHWC", kernel_layout="OHWI"
    )
    return _rows_again(rewriter, product, call)


def _pair(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    a, b = call.args
    if is_weights(rewriter.value(a)) or not len(shape_of(a)) == len(shape_of(b)) == 3:
        return None
    if shape_of(a)[0] != shape_of(b)[0]:
        return None
    product = relax.op.matmul(_rows(rewriter, a), _rows(rewriter, b))
    return _rows_again(rewriter, product, call)


def _convolution(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A convolution along one axis, channels first."""
    a, weights = call.attrs, rewriter.value(call.args[1])
    if (str(a.data_layout), str(a.kernel_layout)) != ("NCW", "OIW") or not is_weights(weights):
        return None
    (left, right) = ints(a.padding)
    ohwi = rearranged(rewriter, weights, lambda oiw: oiw.transpose(0, 2, 1)[:, None])
    convolution = relax.op.nn.conv2d(
        _columns(rewriter, call.args[0]), ohwi, strides=(1, *ints(a.strides)),
        padding=(0, left, 0, right), dilation=(1, *ints(a.dilation)), groups=a.groups,
        data_layout="NHWC", kernel_layout="OHWI",
    )  # fmt: skip
    return _columns_again(rewriter, convolution, call)


def _transposed(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A transposed convolution along one axis, channels first."""
    a, weights = call.attrs, rewriter.value(call.args[1])
    if (str(a.data_layout), str(a.kernel_layout)) != ("NCW", "IOW") or not is_constant(weights):
        return None
    left, right = ints(a.padding)
    convolution = relax.op.nn.conv2d_transpose(
        _columns(rewriter, call.args[0]), constant(constant_value(weights)[:, :, None]),
        strides=(1, *ints(a.strides)), padding=(0, left, 0, right),
        output_padding=(0, *ints(a.output_padding)), dilation=(1, *ints(a.dilation)),
        groups=a.groups, data_layout="NHWC", kernel_layout="IOHW",
    )  # fmt: skip
    return _columns_again(rewriter, convolution, call)


def _pool(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Pooling along one axis, channels first."""
    a = call.attrs
    if str(a.layout) != "NCW":
        return None
    build = relax.op.nn.max_pool2d if is_call(call, "nn.max_pool1d") else relax.op.nn.avg_pool2d
    (width,), (stride,), (dilation,) = ints(a.pool_size), ints(a.strides), ints(a.dilation)
    left, right = ints(a.padding)
    pooled = build(
        _columns(rewriter, call.args[0]), (1, width), (1, stride), (0, left, 0, right),
        (1, dilation), ceil_mode=a.ceil_mode, count_include_pad=a.count_include_pad,
        layout="NHWC",
    )  # fmt: skip
    return _columns_again(rewriter, pooled, call)


def _mean(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """The mean over all positions of an image."""
    x, axes = call.args[0], call.attrs.axis
    if axes is None or len(shape_of(x)) != 3 or len(axes) != 1:
        return None
    axis = int(axes[0]) % 3
    image = (None, _image_of_rows, _image_of_columns)[axis]
    source = None if image is None else image(rewriter, x)
    if source is None:
        return None
    mean = relax.op.mean(source, [1, 2])
    return relax.op.reshape(rewriter.emit(mean), shape_of(call)) if call.attrs.keepdims else mean


def _unary(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """An activation of an image, or its codes."""
    x, *rest = call.args
    if (image := _image_of_rows(rewriter, x)) is not None:
        return _rows_again(rewriter, Call(call.op, [image, *rest], call.attrs), call)
    if (image := _image_of_columns(rewriter, x)) is not None:
        return _columns_again(rewriter, Call(call.op, [image, *rest], call.attrs), call)
    return None


def _sum(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """A sum of an image and another one, or what has one value a channel."""
    shape = shape_of(call)
    for image_of, image, again, channel in (
        (_image_of_rows, _rows, _rows_again, -1),
        (_image_of_columns, _columns, _columns_again, 1),
    ):
        if all(image_of(rewriter, x) is None for x in call.args):
            continue
        moved = []
        for x in call.args:
            value, extents = rewriter.value(x), shape_of(x)
            if not is_constant(value) and extents == shape:
                moved.append(image(rewriter, x))
            elif is_constant(value) and _is_of_channels(extents, shape, channel):
                moved.append(constant(constant_value(value).reshape(-1)))
        if len(moved) == 2:
            return again(rewriter, relax.op.add(*moved), call)
    return None


def _is_of_channels(extents: tuple[int, ...], shape: tuple[int, ...], channel: int) -> bool:
    """Whether a tensor broadcast to `shape` differs along the dimension `channel` alone."""
    wide = (1,) * (len(shape) - len(extents)) + extents
    channel %= len(shape)
    return wide[channel] == shape[channel] and all(
        extent == 1 for at, extent in enumerate(wide) if at != channel
    )


def _image_of_rows(rewriter: Rewriter, x: Any) -> relax.Expr | None:
    """The image that ``[N, ..., C]`` was reshaped from."""
    value, shape = rewriter.value(x), shape_of(x)
    if len(shape) <= 2 or len(shape) == IMAGE_RANK or not is_call(value, "reshape"):
        return None
    source = value.args[0]
    return source if shape_of(source) == _image_shape(shape) else None


def _image_of_columns(rewriter: Rewriter, x: Any) -> relax.Expr | None:
    """The image that ``[N, C, T]`` was made from."""
    value = rewriter.value(x)
    if len(shape_of(x)) != 3 or not is_call(value, "permute_dims") or value.attrs.axes is None:
        return None
    return _image_of_rows(rewriter, value.args[0]) if ints(value.attrs.axes) == SWAP else None


def _rows(rewriter: Rewriter, x: Any) -> relax.Expr:
    """``[N, ..., C]`` as an image."""
    if len(shape_of(x)) == IMAGE_RANK:
        return x
    image = _image_of_rows(rewriter, x)
    if image is None:
        image = rewriter.emit(relax.op.reshape(x, _image_shape(shape_of(x))))
    return image


def _columns(rewriter: Rewriter, x: Any) -> relax.Expr:
    """``[N, C, T]`` as an image."""
    image = _image_of_columns(rewriter, x)
    if image is None:
        image = _rows(rewriter, rewriter.emit(relax.op.permute_dims(x, SWAP)))
    return image


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    positions = 1
    for extent in shape[1:-1]:
        positions *= extent
    return shape[0], 1, positions, shape[-1]


def _rows_again(rewriter: Rewriter, image: relax.Expr, call: Call) -> relax.Expr:
    """The result of `call`, ``[N, ..., C]``, from its image; what follows looks through it."""
    if len(shape_of(call)) == IMAGE_RANK:
        return image
    return relax.op.reshape(rewriter.emit(image), shape_of(call))


def _columns_again(rewriter: Rewriter, image: relax.Expr, call: Call) -> relax.Expr:
    """The result of `call`, ``[N, C, T]``, from its image."""
    n, channels, width = shape_of(call)
    rows = relax.op.reshape(rewriter.emit(image), (n, width, channels))
    return relax.op.permute_dims(rewriter.emit(rows), SWAP)
