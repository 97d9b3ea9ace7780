"""Write a transposed convolution as a convolution whose channels become pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import (
    constant,
    constant_value,
    ints,
    is_call,
    is_constant,
    shape_of,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.arithmetic import Array

# Of [N, H, W, (groups,) down, right, C] to [N, H, down, W, right, (groups,) C].
INTERLEAVE = {6: (0, 1, 3, 2, 4, 5), 7: (0, 1, 4, 2, 5, 3, 6)}


@tvm.transform.module_pass(opt_level=0, name="probq.SplitTransposed")
class SplitTransposed:
    """Compute the phases of a transposed convolution side by side, as channels of a convolution.

    Before::

        lv = R.nn.conv2d_transpose(x, w, strides=[2, 2])  # w [C, O, 2, 2]
        lv1 = R.add(lv, bias)

    After::

        lv = R.nn.conv2d(x, w_phases, data_layout="NHWC", kernel_layout="OHWI")
        lv1 = R.add(lv, bias_phases)
        lv2 = R.reshape(lv1, R.shape([N, H, W, 2, 2, O]))
        lv3 = R.permute_dims(lv2, axes=[0, 1, 3, 2, 4, 5])
        lv4 = R.reshape(lv3, R.shape([N, 2 * H, 2 * W, O]))

    With stride s and kernel K, output ``s * q + r`` before the padding is cut off sums taps
    ``r, r + s, ...`` of inputs ``q, q - 1, ...``: a convolution of ceil(K / s) taps for each of the
    s phases r, zero where a phase has fewer.  A slice cuts the padding off.  Bias and activation
    stay next to the convolution.  Holds before: `LiftProducts`.  Holds after: no transposed
    convolution of constant weights is left.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _visit)


def _visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
    if is_call(new, "nn.conv2d_transpose"):
        return _split(rewriter, new)
    if not is_call(new, "add", "probq.activation"):
        return None
    at = next((i for i, x in enumerate(new.args) if _moves(rewriter, x)), None)
    if at is None or rewriter.uses[old.args[at]] != 1:
        return None
    moves = _moves(rewriter, new.args[at])
    if is_call(new, "probq.activation"):
        return _again(rewriter, Call(new.op, [moves[0].args[0]], new.attrs), moves)
    bias = rewriter.value(new.args[1 - at])
    channels = shape_of(new)[-1]
    if not is_constant(bias) or shape_of(bias)[-1:] != (channels,):
        return None
    if int(np.prod(shape_of(bias))) != channels:
        return None
    spread = constant(_of_phases(constant_value(bias).reshape(-1), moves[0]))
    return _again(rewriter, relax.op.add(moves[0].args[0], spread), moves)


def _moves(rewriter: Rewriter, x: Any) -> list[Call]:
    """The calls that made pixels of channels, in order; none where `x` has another origin."""
    joined = rewriter.value(x)
    moves = []
    if is_call(joined, "strided_slice"):
        if any(int(axis.value) % 4 not in (1, 2) for axis in joined.args[1]):
            return []
        moves, joined = [joined], rewriter.value(joined.args[0])
    permuted: Any = rewriter.value(joined.args[0]) if is_call(joined, "reshape") else None
    if not is_call(permuted, "permute_dims") or permuted.attrs.axes is None:
        return []
    split = rewriter.value(permuted.args[0])
    if not is_call(split, "reshape") or len(shape_of(joined)) != 4:
        return []
    if ints(permuted.attrs.axes) != INTERLEAVE.get(len(shape_of(split))):
        return []
    n, *_, channels = shape_of(joined)
    image, factors = shape_of(split.args[0]), shape_of(split)
    pixels = factors[-3] * factors[-2]
    if len(image) != 4 or image[:3] != factors[:3] or image[-1] != pixels * channels:
        return []
    height, width = image[1] * factors[-3], image[2] * factors[-2]
    return [split, permuted, joined, *moves] if shape_of(joined)[:3] == (n, height, width) else []


def _again(rewriter: Rewriter, image: relax.Expr, moves: list[Call]) -> relax.Expr:
    """The same moves of another image."""
    for move in moves:
        image = Call(move.op, [rewriter.emit(image), *move.args[1:]], move.attrs, move.ty_args)
    return image


def _of_phases(values: Array, split: Call) -> Array:
    """Values of channels for each channel before the split."""
    *groups, _, _, channels = shape_of(split)[3:]
    by_group = values.reshape(*groups, 1, 1, channels)
    return np.broadcast_to(by_group, shape_of(split)[3:]).reshape(-1)


@dataclass(frozen=True)
class _Axis:
    """One axis of the convolution of all phases.

    `taps` of it, `pads` before and after, and `start` where the result begins in what it gives.
    """

    stride: int
    taps: int
    pads: tuple[int, int]
    count: int
    start: int


def _axis(extent: int, kernel: int, stride: int, cut: int, result: int) -> _Axis:
    taps = -(-kernel // stride)
    first = min(cut // stride, taps - 1)
    last = max((cut + result - 1) // stride, extent - 1)
    pads = taps - 1 - first, last - extent + 1
    return _Axis(stride, taps, pads, last - first + 1, cut - stride * first)


def _split(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    a, weights = call.attrs, rewriter.value(call.args[1])
    if (str(a.data_layout), str(a.kernel_layout)) != ("NHWC", "IOHW") or not is_constant(weights):
        return None
    kernel = _dilated(constant_value(weights), ints(a.dilation))
    n, *extents, _ = shape_of(call.args[0])
    *sizes, channels = shape_of(call)[1:]
    rows, columns = (
        _axis(*values)
        for values in zip(
            extents, kernel.shape[2:], ints(a.strides), ints(a.padding)[:2], sizes, strict=True
        )
    )
    groups = int(a.groups)
    y = relax.op.nn.conv2d(
        call.args[0], constant(_phases(kernel, rows, columns, groups)),
        padding=(rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]), groups=groups,
        data_layout="NHWC", kernel_layout="OHWI",
    )  # fmt: skip
    if (rows.stride, columns.stride) != (1, 1):
        within = [groups] * (groups > 1) + [rows.stride, columns.stride, channels // groups]
        y = relax.op.reshape(rewriter.emit(y), (n, rows.count, columns.count, *within))
        y = relax.op.permute_dims(rewriter.emit(y), INTERLEAVE[3 + len(within)])
        whole = n, rows.count * rows.stride, columns.count * columns.stride, channels
        y = relax.op.reshape(rewriter.emit(y), whole)
    starts = [rows.start, columns.start]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    if (*starts, *ends) == (0, 0, rows.count * rows.stride, columns.count * columns.stride):
        return y
    return relax.op.strided_slice(rewriter.emit(y), [1, 2], starts, ends)


def _phases(kernel: Array, rows: _Axis, columns: _Axis, groups: int) -> Array:
    """OHWI weights, O in the order of groups, phases and channels, of an IOHW `kernel`."""
    inputs, outputs = kernel.shape[0] // groups, kernel.shape[1]
    sizes = [axis.taps * axis.stride for axis in (rows, columns)]
    padded = np.zeros((*kernel.shape[:2], *sizes), np.float32)
    padded[:, :, : kernel.shape[2], : kernel.shape[3]] = kernel
    parts = padded.reshape(
        groups, inputs, outputs, rows.taps, rows.stride, columns.taps, columns.stride
    )
    ohwi = parts.transpose(0, 4, 6, 2, 3, 5, 1)[:, :, :, :, ::-1, ::-1]
    return np.ascontiguousarray(ohwi).reshape(-1, rows.taps, columns.taps, inputs)


def _dilated(kernel: Array, dilation: tuple[int, ...]) -> Array:
    """The kernel with its gaps filled with zeros."""
    down, right = dilation
    extents = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    whole = np.zeros((*kernel.shape[:2], *extents), np.float32)
    whole[:, :, ::down, ::right] = kernel
    return whole
