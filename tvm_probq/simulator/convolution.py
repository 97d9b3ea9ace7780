"""Convolutions in NumPy: one matrix product a kernel tap, exact for integer codes."""

from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import Array

EXACT_TERMS = 512  # 512 * 255 * 128 < 2**24: such a sum of codes times weights is exact in float32


def conv2d(
    x: Array, weights: Array, strides: tuple[int, int], pads: tuple[int, int, int, int],
    dilation: tuple[int, int], groups: int,
) -> Array:  # fmt: skip
    """NHWC times OHWI convolution with zero padding (top, left, bottom, right).

    Float32 in, float32 out; integer codes in, exact int32 out.
    """
    top, left, bottom, right = pads
    if any(pads):
        x = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)])
    kernel = weights.shape[1:3]
    size = [
        (x.shape[a + 1] - (kernel[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in range(2)
    ]
    depthwise = groups == x.shape[3] == weights.shape[0]
    tap = _depthwise_tap if depthwise else _dense_tap
    out_dtype = np.float32 if x.dtype.kind == "f" else np.int32
    out = np.zeros((x.shape[0], *size, weights.shape[0]), out_dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            row, column = i * dilation[0], j * dilation[1]
            part = x[:, row : row + (size[0] - 1) * strides[0] + 1 : strides[0]]
            part = part[:, :, column : column + (size[1] - 1) * strides[1] + 1 : strides[1]]
            out += tap(part, weights[:, i, j], groups, out_dtype)
    return out


def matmul(x: Array, weights: Array) -> Array:
    """``x [.., K] @ weights [K, M]``: float32, or exact int32 for integer codes."""
    rows = x.reshape(-1, x.shape[-1])  # one large product: NumPy multiplies stacks one by one
    shape = x.shape[:-1] + weights.shape[1:]
    if x.dtype.kind == "f":
        return (rows @ weights).reshape(shape)
    if x.dtype == np.int16:  # proven to fit int32, so exact in float64
        return (
            (rows.astype(np.float64) @ weights.astype(np.float64)).astype(np.int32).reshape(shape)
        )
    total = np.zeros((len(rows), weights.shape[1]), np.int32)
    for k in range(0, x.shape[-1], EXACT_TERMS):
        part = rows[:, k : k + EXACT_TERMS].astype(np.float32)
        total += (part @ weights[k : k + EXACT_TERMS].astype(np.float32)).astype(np.int32)
    return total.reshape(shape)


def _dense_tap(part: Array, weights: Array, groups: int, dtype: Any) -> Array:
    ic, oc = weights.shape[1], weights.shape[0] // groups
    pieces = [
        matmul(part[..., g * ic : (g + 1) * ic], weights[g * oc : (g + 1) * oc].T)
        for g in range(groups)
    ]
    return pieces[0] if groups == 1 else np.concatenate(pieces, -1)


def _depthwise_tap(part: Array, weights: Array, groups: int, dtype: Any) -> Array:
    product: Array = part.astype(dtype, copy=False) * weights[:, 0].astype(dtype)
    return product


def conv2d_transpose(
    x: Array,
    weights: Array,
    strides: tuple[int, int],
    pads: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
) -> Array:
    """Transposed convolution: each input position adds its weights to those it spreads to.

    Parameters
    ----------
    x : Array
        float32 ``[N, H, W, C]``.
    weights : Array
        float32 ``[G, C / G, O / G, KH, KW]``, by groups.
    strides, dilation : tuple of int
        Down and right.
    pads : tuple of int
        Rows and columns that are cut off above and left.
    size : tuple of int
        Height and width of the result.

    Returns
    -------
    Array
        float32 ``[N, *size, O]``.
    """
    n, height, width, _ = x.shape
    groups, inputs, outputs, kernel_height, kernel_width = weights.shape
    by_group = x.reshape(n, height, width, groups, inputs)
    whole = [
        max((extent - 1) * stride + (kernel - 1) * gap + 1, cut + result)
        for extent, stride, kernel, gap, cut, result in zip(
            (height, width), strides, (kernel_height, kernel_width), dilation, pads, size,
            strict=True,
        )
    ]  # fmt: skip
    y = np.zeros((n, *whole, groups, outputs), np.float32)
    for i in range(kernel_height):
        for j in range(kernel_width):
            part = np.einsum("nhwgi,gio->nhwgo", by_group, weights[..., i, j])
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(left, left + (width - 1) * strides[1] + 1, strides[1])
            y[:, rows, columns] += part
    cut = y[:, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]
    return np.ascontiguousarray(cut).reshape(n, *size, groups * outputs)
