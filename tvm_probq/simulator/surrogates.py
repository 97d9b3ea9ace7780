"""The definition of both surrogates in NumPy: output parameters predicted from sums over the input.

`moments` sees known weights and a random input, `iid` sees random weights and a known input
(arXiv 2505.10689, section 3).  Every constant is a float32 array fixed at compile time; the
run-time work is a handful of multiply-adds per input channel and sample.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import (
    F32,
    PROJECTION_CHAINS,
    Array,
    chained_matvec,
    f32,
    fma,
    lane_dot,
    lane_sum,
    maximum,
    minimum,
)
from tvm_probq.simulator.numerics import Activation, activate, make_qparams


@dataclass(frozen=True)
class Fit:
    """What calibration fitted.

    `spread` ``[2, G]`` (alpha, beta), `rule` ``[2]`` (residual correlation, largest step allowed),
    `levels` ``[B]`` largest codes of the allowed bit-widths, ascending.
    """

    spread: F32
    rule: F32
    levels: F32


@dataclass(frozen=True)
class MomentsTensor:
    """`moments`, one range for the tensor.

    `basis` int8 ``[IC, R]`` or none (identity), `gram` ``[R, R]``, `linear` ``[2, R]`` (twice the
    cross term with the bias; mean weights), `scalars` ``[2]`` (variance of the bias over channels,
    mean bias), `power` ``[IC]`` mean over channels of the squared weights.
    """

    basis: Array | None
    gram: F32
    linear: F32
    scalars: F32
    power: F32


@dataclass(frozen=True)
class MomentsChannel:
    """`moments`, one range a channel of a dense layer.

    `weights` ``[IC, OC]`` sums over taps of w, `power` ``[IC, OC]`` of w squared, `bias` ``[OC]``.
    """

    weights: F32
    power: F32
    bias: F32


@dataclass(frozen=True)
class MomentsDiagonal:
    """`moments` of a depthwise layer: `weights`, `power` and `bias`, all ``[C]``."""

    weights: F32
    power: F32
    bias: F32


@dataclass(frozen=True)
class IidTable:
    """`iid`: `table` ``[6, G]`` per channel group.

    Means over the group's output channels of mu, bias, the weights' variance, mu squared, twice mu
    times bias, and bias squared.
    """

    table: F32


def moments_of(sums: Array, qparams: F32, count: int) -> tuple[F32, F32]:
    """Real mean and variance ``[N, C]`` per channel from integer sums ``[N, 2, C]`` of codes."""
    share = f32(1.0) / f32(count)
    scale, zero = qparams[:, 0], qparams[:, 1]
    mean_code = sums[:, 0].astype(np.float32) * share
    mean = (mean_code - zero) * scale
    spread = fma(-mean_code, mean_code, sums[:, 1].astype(np.float32) * share)
    return mean, maximum(spread, 0.0) * (scale * scale)


def tensor_moments(mean: F32, variance: F32) -> tuple[F32, F32]:
    """Mean and variance ``[N, 1]`` of a whole tensor from those of its channels ``[N, C]``."""
    channels = f32(mean.shape[1])
    centre = lane_sum(mean) / channels
    between = mean - centre[:, None]
    within = lane_sum(variance) / channels
    return centre[:, None], (within + lane_dot(between, between) / channels)[:, None]


def project(mean: F32, basis: Array | None) -> F32:
    """Channel means ``[N, IC]`` on the calibrated basis int8 ``[IC, R]``, ``[N, R]``."""
    if basis is None:
        return mean
    return chained_matvec(mean, basis.astype(np.float32), PROJECTION_CHAINS)


def correct(
    mean: F32, matrix: Array, scale: F32 | None = None, basis: Array | None = None
) -> F32:  # fmt: skip
    """Shift ``[N, OC]`` by the rounding of the weights at channel means ``[N, IC]``.

    `matrix` int8 ``[R, OC]`` with the `scale` ``[R]`` of its rows, over `basis` if given; without a
    scale it is float32 ``[C]``, of a depthwise layer.
    """
    if scale is None:
        shift: F32 = mean * matrix
        return shift
    return chained_matvec(project(mean, basis) * scale, matrix.astype(np.float32))


def predict_tensor(c: MomentsTensor, mean: F32, variance: F32) -> tuple[F32, F32]:
    """Mixture mean and variance ``[N, 1]`` of the layer's output over channels and positions."""
    z = project(mean, c.basis)
    u = chained_matvec(z, c.gram) + c.linear[0]
    between = lane_dot(z, u) + c.scalars[0]
    centre = lane_dot(z, np.broadcast_to(c.linear[1], z.shape)) + c.scalars[1]
    within = lane_dot(variance, c.power)
    return centre[:, None], (maximum(between, 0.0) + within)[:, None]


def predict_channel(c: MomentsChannel, mean: F32, variance: F32) -> tuple[F32, F32]:
    """Mean and variance ``[N, OC]`` of each output channel of a dense layer."""
    return chained_matvec(mean, c.weights) + c.bias, chained_matvec(variance, c.power)


def predict_diagonal(c: MomentsDiagonal, mean: F32, variance: F32) -> tuple[F32, F32]:
    """Mean and variance ``[N, C]`` of each channel of a depthwise layer."""
    return fma(c.weights, mean, c.bias), c.power * variance


def predict_iid(c: IidTable, patches: F32, scale: F32, count: int) -> tuple[F32, F32]:
    """Mixture mean and variance ``[N, 1]`` from patch sums ``[N, 3, G]`` (see `patch_sums`)."""
    mu, bias, var, mu2, mu_bias, bias2 = c.table
    total, groups = f32(count), f32(c.table.shape[1])
    first = patches[:, 0] / total
    position = maximum(fma(-first, first, patches[:, 2] / total), 0.0) * (scale * scale)
    energy = (patches[:, 1] / total) * (scale * scale)
    first = first * scale
    centre = lane_sum(fma(mu, first, bias)) / groups
    squares = fma(mu2, first, mu_bias)
    squares = fma(squares, first, bias2)
    squares = fma(mu2, position, fma(var, energy, squares))
    variance = fma(-centre, centre, lane_sum(squares) / groups)
    return centre[:, None], maximum(variance, 0.0)[:, None]


def patch_sums(
    x: Array, qparams: F32, kernel: tuple[int, int], strides: tuple[int, int],
    pads: tuple[int, int, int, int], dilation: tuple[int, int], groups: int, gamma: int,
) -> F32:  # fmt: skip
    """float32 ``[N, 3, G]``: sums over sampled positions of S1, S2 and S1 squared (exact integers).

    S1 and S2 are the sums of x and x squared, ``x = q - zero_point``, over the receptive field of
    one output position and one channel group; every `gamma`-th row and column of positions is
    taken.
    """
    n, h, w, c = x.shape
    centred = x.astype(np.int64) - qparams[:, 1].astype(np.int64).reshape(n, 1, 1, -1)
    by_group = centred.reshape(n, h, w, groups, c // groups)
    top, left, bottom, right = pads
    width = [(0, 0), (top, bottom), (left, right), (0, 0)]
    s1, s2 = (np.pad(v.sum(-1), width) for v in (by_group, by_group**2))
    rows = s1.shape[1] - (kernel[0] - 1) * dilation[0]
    columns = s1.shape[2] - (kernel[1] - 1) * dilation[1]

    def window(s: Array) -> Array:
        taps = (
            s[:, i * dilation[0] :, j * dilation[1] :][
                :, : rows : strides[0] * gamma, : columns : strides[1] * gamma
            ]
            for i in range(kernel[0])
            for j in range(kernel[1])
        )
        return sum(taps, np.zeros((), np.int64))

    p1, p2 = window(s1), window(s2)
    return np.stack([p1.sum((1, 2)), p2.sum((1, 2)), (p1**2).sum((1, 2))], 1).astype(np.float32)


def add_residual(
    centre: F32, variance: F32, residual: tuple[F32, F32], rho: Any
) -> tuple[F32, F32]:
    """Mean and variance after a residual with its own mean and variance, correlation `rho`."""
    r_centre, r_variance = residual
    cross = np.sqrt(variance * r_variance)
    return centre + r_centre, fma(f32(rho) * f32(2.0), cross, variance + r_variance)


def product_moments(a: tuple[F32, F32], b: tuple[F32, F32], length: F32) -> tuple[F32, F32]:
    """Mean and variance ``[N, 1]`` of sums of `length` products of independent factors."""
    (a_mean, a_variance), (b_mean, b_variance) = a, b
    squares = fma(a_variance, b_mean * b_mean, (a_mean * a_mean) * b_variance)
    return (a_mean * b_mean) * length, fma(a_variance, b_variance, squares) * length


def to_qparams(centre: F32, variance: F32, fit: Fit, activation: Activation) -> F32:
    """Output parameters ``[N, 3, G]`` of the interval around the predicted mean."""
    sigma = np.sqrt(maximum(variance, 0.0))
    low, high = fma(-fit.spread[0], sigma, centre), fma(fit.spread[1], sigma, centre)
    low, high = map_interval(low, high, activation)
    return choose_width(low, high, fit)


def map_interval(low: F32, high: F32, activation: Activation) -> tuple[F32, F32]:
    """The interval's ends through the activation, and its smallest value if that is inside."""
    if activation.floor is not None:
        floor = np.full_like(low, np.float32(activation.floor))
        return minimum(activate(low, activation), floor), maximum(activate(high, activation), 0.0)
    return activate(low, activation), activate(high, activation)


def choose_width(low: F32, high: F32, fit: Fit) -> F32:
    """Parameters with the fewest levels whose step is at most the tolerance ``fit.rule[1]``."""
    width = maximum(high, 0.0) - minimum(low, 0.0)
    qmax = np.broadcast_to(fit.levels[-1], width.shape)
    for level in fit.levels[-2::-1]:
        qmax = np.where(width / level <= fit.rule[1], level, qmax)
    return make_qparams(low, high, qmax)
