"""The definition of every quantized operator, in NumPy.

Quantized tensors are uint8, channels last: ``[N, H, W, C]`` or ``[N, C]``.  Their parameters are a
float32 tensor ``[N, 3, G]``: scale, zero-point and largest code (``2**bits - 1``) per sample, with
``G = 1`` (one range for the tensor) or ``G = C`` (a range for each channel).  Those of more than 8
bits are int16, none negative, with any largest code.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import F32, SCALE_FLOOR, Array, f32, fma, maximum, minimum
from tvm_probq.simulator.smooth import GELU_FLOOR, SILU_FLOOR, SMOOTH

FLOORS = {"hard_swish": -0.375, "silu": SILU_FLOOR, "gelu": GELU_FLOOR}


@dataclass(frozen=True)
class Activation:
    """What follows a layer.

    Attributes
    ----------
    kind : str
        "none", "clip", "leaky", "hard_swish", "hard_sigmoid" or one of `SMOOTH`.
    low, high : float
        Ends of a clip.
    slope : float
        Factor of negative values of a leaky ReLU, between 0 and 1.
    """

    kind: str = "none"
    low: float = -np.inf
    high: float = np.inf
    slope: float = 0.0

    @property
    def linear(self) -> bool:
        """Whether the activation is a clip (or nothing), done on the integer grid."""
        return self.kind in ("none", "clip")

    @property
    def floor(self) -> float | None:
        """The smallest value, of an activation that falls before it rises."""
        return FLOORS.get(self.kind)

    @property
    def factor(self) -> float:
        """What `unscaled` is multiplied by: the sixth of a hard activation."""
        return 1.0 / 6.0 if self.kind.startswith("hard_") else 1.0


def spread(qparams: F32, row: int, ndim: int) -> F32:
    """Row `row` of `qparams` shaped to broadcast over a channels-last tensor of rank `ndim`."""
    values = qparams[:, row, :]
    return values.reshape((values.shape[0],) + (1,) * (ndim - 2) + (values.shape[1],))


def make_qparams(low: Any, high: Any, qmax: Any) -> F32:
    """Parameters ``[N, 3, G]`` of the intervals `low`, `high` ``[N, G]``; zero is always exact."""
    low, high = minimum(low, 0.0), maximum(high, 0.0)
    qmax = np.broadcast_to(f32(qmax), low.shape)
    scale = maximum((high - low) / qmax, SCALE_FLOOR)
    zero_point = np.rint(minimum(maximum(-low / scale, 0.0), qmax))
    return np.stack([scale, zero_point, qmax], axis=1).astype(np.float32)


def quantize(x: F32, qparams: F32, dtype: str = "uint8") -> Array:
    """Real values to codes: ``rint(clip(fma(x, 1 / scale, zero_point)))``."""
    value = fma(x, f32(1.0) / spread(qparams, 0, x.ndim), spread(qparams, 1, x.ndim))
    return to_codes(value, f32(0.0), spread(qparams, 2, x.ndim), dtype)


def dequantize(q: Array, qparams: F32) -> F32:
    """Codes to real values: ``(q - zero_point) * scale``."""
    return (q.astype(np.float32) - spread(qparams, 1, q.ndim)) * spread(qparams, 0, q.ndim)


def to_codes(value: F32, lower: Any, upper: Any, dtype: str = "uint8") -> Array:
    """Clip in float (a float beyond int32 must not wrap), then round half to even."""
    return np.rint(minimum(maximum(value, lower), upper)).astype(dtype)


def pack_codes(q: Array) -> Array:
    """Codes of at most 15, channels last, two in a byte: the second half in the upper bits."""
    lower, upper = np.split(q, 2, axis=-1)
    packed: Array = lower | upper << np.uint8(4)
    return packed


def unpack_codes(p: Array) -> Array:
    """The codes uint8 ``[..., 2 C]`` in bytes ``[..., C]``; the inverse of `pack_codes`."""
    return np.concatenate([p & np.uint8(15), p >> np.uint8(4)], axis=-1)


def activate(v: F32, activation: Activation) -> F32:
    """The activation on real values, in the order of operations of the kernels."""
    if activation.kind == "none":
        return v
    if activation.kind == "clip":
        return minimum(maximum(v, activation.low), activation.high)
    return unscaled(v, activation) * f32(activation.factor)


def unscaled(v: F32, activation: Activation) -> F32:
    """An activation that is no clip, before its constant factor."""
    if activation.kind == "leaky":
        return maximum(v, v * f32(activation.slope))
    if activation.kind in SMOOTH:
        return SMOOTH[activation.kind](v)
    gate = minimum(maximum(v + f32(3.0), 0.0), 6.0)
    if activation.kind == "hard_swish":
        return v * gate
    if activation.kind == "hard_sigmoid":
        return gate
    raise ValueError(f"unknown activation {activation.kind!r}")


def code_bounds(activation: Activation, qparams: F32, ndim: int) -> tuple[F32, F32]:
    """Smallest and largest code after a linear activation."""
    scale, zero, qmax = (spread(qparams, row, ndim) for row in range(3))
    lower, upper = np.zeros_like(zero), qmax
    if np.isfinite(activation.low):
        lower = maximum(np.rint(f32(activation.low) / scale + zero), 0.0)
    if np.isfinite(activation.high):
        upper = minimum(np.rint(f32(activation.high) / scale + zero), qmax)
    return lower, upper


@dataclass(frozen=True)
class Accumulator:
    """An int32 accumulator tensor and what turns it into real numbers.

    `sums` int32 ``[N, ..., OC]`` of raw codes times weights, input parameters `x_qparams`, weight
    scales float32 ``[OC]``, weight sums int32 ``[OC]``, bias float32 ``[OC]``, optional correction
    float32 ``[N, OC]`` and an optional quantized residual of the same shape as `sums`.
    """

    sums: Array
    x_qparams: F32
    weight_scale: F32
    weight_sum: Array
    bias: F32
    correction: F32 | None = None
    residual: Array | None = None
    residual_qparams: F32 | None = None

    def centred(self) -> F32:
        """float32 of ``sums - zero_point * weight_sum``; the difference is exact in int32."""
        zero = spread(self.x_qparams, 1, self.sums.ndim).astype(np.int32)
        return (self.sums - zero * self.weight_sum).astype(np.float32)

    def step(self) -> F32:
        """Real value of one unit of the accumulator, ``[N, 1, .., OC]``."""
        return spread(self.x_qparams, 0, self.sums.ndim) * self.weight_scale

    def offset(self) -> F32:
        """Bias plus correction, ``[N, 1, .., OC]`` or ``[OC]``."""
        if self.correction is None:
            return self.bias
        n, channels = self.correction.shape
        shape = (n,) + (1,) * (self.sums.ndim - 2) + (channels,)
        return self.bias + self.correction.reshape(shape)

    def residual_codes(self) -> F32:
        """float32 of the residual's codes less their zero-point."""
        if self.residual is None or self.residual_qparams is None:
            raise ValueError("this accumulator has no residual")
        zero = spread(self.residual_qparams, 1, self.sums.ndim).astype(np.int32)
        return (self.residual.astype(np.int32) - zero).astype(np.float32)


def dequantize_accumulator(acc: Accumulator, activation: Activation) -> F32:
    """Real float32 values of a layer's output."""
    v = fma(acc.centred(), acc.step(), acc.offset())
    if acc.residual is not None and acc.residual_qparams is not None:
        v = fma(acc.residual_codes(), spread(acc.residual_qparams, 0, v.ndim), v)
    return activate(v, activation)


def requantize(
    acc: Accumulator, y_qparams: F32, activation: Activation, dtype: str = "uint8"
) -> Array:
    """Codes of a layer's output under the parameters `y_qparams`."""
    ndim = acc.sums.ndim
    scale, zero = spread(y_qparams, 0, ndim), spread(y_qparams, 1, ndim)
    if not activation.linear:
        value = unscaled(dequantize_accumulator(acc, Activation()), activation)
        value = fma(value, f32(activation.factor) / scale, zero)
        return to_codes(value, f32(0.0), spread(y_qparams, 2, ndim), dtype)
    v = fma(acc.centred(), acc.step() / scale, acc.offset() / scale + zero)
    if acc.residual is not None and acc.residual_qparams is not None:
        v = fma(acc.residual_codes(), spread(acc.residual_qparams, 0, ndim) / scale, v)
    return to_codes(v, *code_bounds(activation, y_qparams, ndim), dtype)


def measure(values: F32, qmax: Any, per_channel: bool = False) -> F32:
    """Parameters of the smallest interval that holds `values`, per sample (and channel)."""
    return make_qparams(*ends(values, per_channel), qmax)


def ends(values: F32, per_channel: bool = False) -> tuple[F32, F32]:
    """Smallest and largest of `values` and zero, per sample (and channel); NaN is left out."""
    axes = tuple(range(1, values.ndim - (1 if per_channel else 0)))
    shape = (values.shape[0], -1)
    low = np.fmin.reduce(values, axis=axes, initial=np.float32(0), keepdims=True).reshape(shape)
    high = np.fmax.reduce(values, axis=axes, initial=np.float32(0), keepdims=True).reshape(shape)
    return low, high


def pad_zero_point(x: Array, qparams: F32, pad_width: list[tuple[int, int]]) -> Array:
    """Pad with the code of real zero, per sample; `pad_width` per axis as for `numpy.pad`."""
    inside = np.pad(np.ones(x.shape[1:], bool), pad_width[1:])
    out = np.pad(x, pad_width)
    code = spread(qparams, 1, x.ndim).astype(x.dtype)
    return np.where(inside, out, code)


def add(
    a: Array, a_qparams: F32, b: Array, b_qparams: F32, y_qparams: F32, act: Activation
) -> Array:
    """Quantized sum of two quantized tensors, linear activation included."""
    scale = spread(y_qparams, 0, a.ndim)
    v = np.broadcast_to(spread(y_qparams, 1, a.ndim), a.shape)
    for q, p in ((b, b_qparams), (a, a_qparams)):
        codes = (q.astype(np.int32) - spread(p, 1, a.ndim).astype(np.int32)).astype(np.float32)
        v = fma(codes, spread(p, 0, a.ndim) / scale, v)
    return to_codes(v, *code_bounds(act, y_qparams, a.ndim))


def rescale(x: Array, x_qparams: F32, y_qparams: F32) -> Array:
    """The same real values under other parameters."""
    zero = spread(x_qparams, 1, x.ndim).astype(np.int32)
    codes = (x.astype(np.int32) - zero).astype(np.float32)
    scale = spread(y_qparams, 0, x.ndim)
    v = fma(codes, spread(x_qparams, 0, x.ndim) / scale, spread(y_qparams, 1, x.ndim))
    return to_codes(v, f32(0.0), spread(y_qparams, 2, x.ndim))


def clip(q: Array, qparams: F32, activation: Activation) -> Array:
    """Codes after a linear activation, under the same parameters."""
    return to_codes(q.astype(np.float32), *code_bounds(activation, qparams, q.ndim))


def merge_ranges(all_qparams: list[F32], qmax: Any) -> F32:
    """Parameters of the smallest per-tensor interval that holds every given interval."""
    low = np.stack([((0.0 - p[:, 1]) * p[:, 0]).min(-1, keepdims=True) for p in all_qparams])
    high = np.stack([((p[:, 2] - p[:, 1]) * p[:, 0]).max(-1, keepdims=True) for p in all_qparams])
    return make_qparams(low.min(0), high.max(0), qmax)


def channel_mean(x: Array, qparams: F32) -> F32:
    """Codes averaged over positions ``[N, C]``, less the zero-point."""
    positions = x.shape[1] * x.shape[2]
    total = x.astype(np.int32).sum((1, 2), dtype=np.int32).astype(np.float32)
    mean: F32 = total / f32(positions) - qparams[:, 1, :]
    return mean


def global_avg_pool(x: Array, x_qparams: F32, y_qparams: F32) -> Array:
    """Mean over positions, ``[N, H, W, C]`` to ``[N, C]`` codes under `y_qparams`."""
    v = fma(channel_mean(x, x_qparams), x_qparams[:, 0] / y_qparams[:, 0], y_qparams[:, 1])
    return to_codes(v, f32(0.0), y_qparams[:, 2])


def avg_pool(q: Array, rows: Array, columns: Array) -> Array:
    """Mean codes of windows; `rows` and `columns` int32 ``[2, n]`` are where each begins and ends.

    The parameters are those of `q`: a mean lies within its range.
    """
    total = np.zeros((q.shape[0], rows.shape[1], columns.shape[1], q.shape[3]), np.int32)
    for i, (top, bottom) in enumerate(rows.T):
        for j, (left, right) in enumerate(columns.T):
            total[:, i, j] = q[:, top:bottom, left:right].sum((1, 2), dtype=np.int32)
    count = (rows[1] - rows[0])[:, None, None] * (columns[1] - columns[0])[:, None]
    mean: Array = np.rint(total.astype(np.float32) / count.astype(np.float32)).astype(np.uint8)
    return mean


def pool_range(x: Array, x_qparams: F32, qmax: Any) -> F32:
    """Parameters of the exact range of the channel means, per sample."""
    return measure(channel_mean(x, x_qparams) * x_qparams[:, 0], qmax)


def sums(x: Array, strides: tuple[int, int]) -> Array:
    """int32 ``[N, 2, C]``: sums of codes and squared codes over a grid of rows and columns."""
    down, right = strides
    read = x.reshape(x.shape[0], 1, 1, -1) if x.ndim == 2 else x[:, ::down, ::right]
    values = read.astype(np.int32)
    return np.stack(
        [values.sum((1, 2), dtype=np.int32), (values**2).sum((1, 2), dtype=np.int32)], 1
    )
