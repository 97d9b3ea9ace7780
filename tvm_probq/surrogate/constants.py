"""Constants of the surrogates: everything that a layer's weights tell before the input is known."""

import numpy as np

from tvm_probq.ir.layers import Geometry
from tvm_probq.simulator.arithmetic import F32, Array
from tvm_probq.simulator.surrogates import IidTable, MomentsChannel, MomentsDiagonal, MomentsTensor
from tvm_probq.surrogate.directions import Directions
from tvm_probq.surrogate.taps import expand_groups, tap_sums


def moments_tensor(
    weights: Array, bias: Array, geometry: Geometry, directions: Directions | None
) -> MomentsTensor:
    """`moments` with one range for the tensor, over a few `directions` if given."""
    w1, w2 = (expand_groups(w, geometry.groups) for w in tap_sums(weights, geometry))
    if directions is not None:
        w1 = w1 @ directions.lift
    b = bias.astype(np.float64)
    centred, b_centred = w1 - w1.mean(0), b - b.mean()
    channels = len(b)
    return MomentsTensor(
        basis=None if directions is None else directions.codes,
        gram=f32(centred.T @ centred / channels),
        linear=f32(np.stack([2 * centred.T @ b_centred / channels, w1.mean(0)])),
        scalars=f32(np.array([b.var(), b.mean()])),
        power=f32(w2.mean(0)),
    )


def moments_channel(weights: Array, bias: Array, geometry: Geometry) -> MomentsChannel:
    """`moments` with a range for each output channel of a dense or grouped layer."""
    w1, w2 = (expand_groups(w, geometry.groups) for w in tap_sums(weights, geometry))
    return MomentsChannel(f32(w1.T), f32(w2.T), f32(bias))


def moments_diagonal(weights: Array, bias: Array, geometry: Geometry) -> MomentsDiagonal:
    """`moments` of a depthwise layer."""
    w1, w2 = tap_sums(weights, geometry)
    return MomentsDiagonal(f32(w1[:, 0]), f32(w2[:, 0]), f32(bias))


def iid_table(weights: Array, bias: Array, geometry: Geometry) -> IidTable:
    """`iid`: statistics of each channel group's weights (paper, equations 6 to 9)."""
    flat = weights.reshape(weights.shape[0], -1).astype(np.float64)
    mu, var, b = flat.mean(1), flat.var(1), bias.astype(np.float64)
    columns = [mu, b, var, mu * mu, 2 * mu * b, b * b]
    table = [c.reshape(geometry.groups, -1).mean(1) for c in columns]
    return IidTable(f32(np.stack(table)))


def f32(values: Array) -> F32:
    """Contiguous float32."""
    return np.ascontiguousarray(values, dtype=np.float32)
