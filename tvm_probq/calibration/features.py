"""What the surrogates would read from a float tensor, and what they would predict from it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tvm_probq.ir.layers import Geometry, Layer
from tvm_probq.simulator.arithmetic import F32, Array, f32
from tvm_probq.simulator.surrogates import (
    IidTable,
    MomentsDiagonal,
    MomentsTensor,
    add_residual,
    patch_sums,
    predict_channel,
    predict_diagonal,
    predict_iid,
    predict_tensor,
    tensor_moments,
)
from tvm_probq.surrogate.constants import (
    iid_table,
    moments_channel,
    moments_diagonal,
    moments_tensor,
)
from tvm_probq.surrogate.directions import surrogate_directions
from tvm_probq.surrogate.sampling import patch_count, patch_gamma, sampling

Moments = tuple[F32, F32]


def channel_moments(x: Array) -> Moments:
    """Mean and variance ``[N, C]`` over the sampled positions of a float tensor."""
    if x.ndim == 2:
        return f32(x), np.zeros_like(f32(x))
    down, right = sampling(x.shape).strides
    read = x[:, ::down, ::right].astype(np.float64)
    return f32(read.mean((1, 2))), f32(read.var((1, 2)))


def second_moments(x: Array) -> F32:
    """Mean of the products of channels ``[C, C]`` over the sampled positions of a tensor."""
    if x.ndim == 4:
        down, right = sampling(x.shape).strides
        x = x[:, ::down, ::right]
    read = f32(x.reshape(-1, x.shape[-1]))
    return f32(read.T @ read / np.float32(len(read)))


def tap_means(x: Array, geometry: Geometry) -> Array:
    """Mean ``[KH, KW, IC]`` at each kernel tap over the output positions of a tensor ``[1, ...]``.

    Padding counts as 0.
    """
    if x.ndim == 2:
        flat: Array = x[0].astype(np.float64)
        return flat.reshape(1, 1, -1)
    top, left, bottom, right = geometry.pads
    padded = np.pad(x[0].astype(np.float64), [(top, bottom), (left, right), (0, 0)])
    (down, across), dilation = geometry.strides, geometry.dilation
    rows, columns = geometry.y_shape[1:3]

    def at(tap: tuple[int, int]) -> Array:
        i, j = (t * d for t, d in zip(tap, dilation, strict=True))
        seen = padded[i : i + rows * down : down, j : j + columns * across : across]
        mean: Array = seen.mean((0, 1))
        return mean

    kh, kw = geometry.kernel
    return np.stack([np.stack([at((i, j)) for j in range(kw)]) for i in range(kh)])


def real_patch_sums(x: Array, geometry: Geometry) -> F32:
    """`patch_sums` of real values instead of codes, ``[N, 3, G]``."""
    unit = 1.0 / 4096.0
    peak = max(float(np.abs(x).max()), 1e-12)
    codes = np.rint(x.astype(np.float64) * (1.0 / (unit * peak)))
    if x.ndim == 2:
        codes = codes[:, None, None, :]
    zero = np.zeros((x.shape[0], 3, 1), np.float32)
    sums = patch_sums(
        codes, zero, geometry.kernel, geometry.strides, geometry.pads, geometry.dilation,
        geometry.groups, patch_gamma(geometry),
    )  # fmt: skip
    scale = np.array([1.0, unit * peak, unit * peak]) * unit * peak
    return f32(sums * scale[None, :, None])


@dataclass(frozen=True)
class Predictors:
    """The surrogates of one layer, built from its float weights.

    A dense layer has `moments` over the calibrated basis, a depthwise layer the diagonal form.
    """

    geometry: Geometry
    moments: MomentsTensor | MomentsDiagonal
    iid: IidTable
    correlation: float

    @classmethod
    def of(cls, layer: Layer, basis: Array | None, correlation: float) -> "Predictors":
        """Build from a layer and its warm-up."""
        g, w, b = layer.geometry, layer.weights, layer.bias
        moments: MomentsTensor | MomentsDiagonal
        moments = (
            moments_diagonal(w, b, g)
            if g.depthwise
            else moments_tensor(w, b, g, surrogate_directions(basis))
        )
        return cls(g, moments, iid_table(w, b, g), correlation)

    def predict(self, kind: str, x: Array, residual: Moments | None) -> Moments:
        """Mean and variance ``[N, 1]`` of the layer's output before its activation."""
        if kind == "iid":
            count = patch_count(self.geometry, patch_gamma(self.geometry))
            one = np.ones((x.shape[0], 1), np.float32)
            result = predict_iid(self.iid, real_patch_sums(x, self.geometry), one, count)
        else:
            result = mixture(self.moments, *channel_moments(x))
        return result if residual is None else add_residual(*result, residual, self.correlation)


def mixture(constants: MomentsTensor | MomentsDiagonal, mean: F32, variance: F32) -> Moments:
    """Mean and variance of the whole output from the input's channel moments."""
    if isinstance(constants, MomentsDiagonal):
        return tensor_moments(*predict_diagonal(constants, mean, variance))
    return predict_tensor(constants, mean, variance)


def residual_moments(x: Array) -> Moments:
    """Mean and variance ``[N, 1]`` of a residual tensor from its sampled positions."""
    return tensor_moments(*channel_moments(x))


def correlation(y: Array, residual: Array) -> float:
    """Pearson correlation of two tensors, 0 where one is constant."""
    a, b = (v.astype(np.float64).ravel() - v.mean() for v in (y, residual))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def channel_predictor(layer: Layer) -> Callable[[Array], tuple[Array, Array]]:
    """Mean and deviation ``[C]`` of each output channel, a function of the input ``[1, ...]``."""
    g, w, b = layer.geometry, layer.weights, layer.bias
    if g.depthwise:
        diagonal = moments_diagonal(w, b, g)
        return lambda x: _mean_and_sigma(predict_diagonal(diagonal, *channel_moments(x)))
    dense = moments_channel(w, b, g)
    return lambda x: _mean_and_sigma(predict_channel(dense, *channel_moments(x)))


def _mean_and_sigma(moments: Moments) -> tuple[Array, Array]:
    mean, variance = moments
    return mean[0].astype(np.float64), np.sqrt(np.maximum(variance[0].astype(np.float64), 0.0))
