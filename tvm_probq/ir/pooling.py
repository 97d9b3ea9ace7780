"""Average pooling of images as tables: which rows, and columns, each window holds."""

from math import prod
from typing import Any

import numpy as np

from tvm_probq.ir.expressions import ints, is_call, shape_of
from tvm_probq.simulator.arithmetic import Array

LARGEST_WINDOW = 16  # of more values, the mean uses too little of the range of each


def is_average_pool(call: Any) -> bool:
    """Whether `call` averages windows of an NHWC tensor that codes of its range can tell apart.

    None of them is dilated or empty, nor larger than `LARGEST_WINDOW`.
    """
    if not is_call(call, "nn.avg_pool2d") or str(call.attrs.layout) != "NHWC":
        return False
    if prod(ints(call.attrs.pool_size)) > LARGEST_WINDOW:
        return False
    if any(d != 1 for d in ints(call.attrs.dilation)):
        return False
    return all((ends > starts).all() for starts, ends in pooled_windows(call))


def counted_padding(call: Any) -> tuple[int, ...]:
    """Rows above, columns left, rows below and columns right that count as zeros."""
    return ints(call.attrs.padding) if call.attrs.count_include_pad else (0, 0, 0, 0)


def pooled_windows(call: Any) -> tuple[Array, Array]:
    """Tables int32 ``[2, H']`` and ``[2, W']``: first rows of windows, and those behind them.

    Rows of the image with its `counted_padding`.
    """
    a, counted = call.attrs, counted_padding(call)
    (top, left, *_), old, new = ints(a.padding), shape_of(call.args[0])[1:3], shape_of(call)[1:3]
    rows, columns = (
        _windows(extent + counted[axis] + counted[axis + 2], count, kernel, stride, before)
        for axis, (extent, count, kernel, stride, before) in enumerate(
            zip(
                old, new, ints(a.pool_size), ints(a.strides),
                (top - counted[0], left - counted[1]), strict=True,
            )
        )
    )  # fmt: skip
    return rows, columns


def _windows(extent: int, count: int, kernel: int, stride: int, before: int) -> Array:
    first = np.arange(count) * stride - before
    return np.clip(np.stack([first, first + kernel]), 0, extent).astype(np.int32)
