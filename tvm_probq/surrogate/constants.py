"""Surrogate constants from a layer's weights: everything that is known before the input is."""

import math
from dataclasses import dataclass

import numpy as np

from tvm_probq.ir.layers import Geometry
from tvm_probq.simulator.arithmetic import F32, Array
from tvm_probq.simulator.surrogates import IidTable, MomentsChannel, MomentsDiagonal, MomentsTensor

MAX_SAMPLED_POSITIONS = 512
MIN_SAMPLED_POSITIONS = 49
MAX_SAMPLED_CHANNELS = 32
NARROW_CHANNELS = 16
BASIS_RANK = 64
SURROGATE_RANK = 8
EIGHT_BIT_RANK = 16
BASIS_FROM_CHANNELS = 16
LARGEST_CODE = 127


@dataclass(frozen=True)
class Sampling:
    """Which positions of a tensor a surrogate reads: a grid with these strides."""

    strides: tuple[int, int]

    def count(self, shape: tuple[int, ...]) -> int:
        """Positions read of a tensor of NHWC (or ``[N, C]``) `shape`."""
        if len(shape) == 2:
            return 1
        down, right = self.strides
        return -(-shape[1] // down) * -(-shape[2] // right)


@dataclass(frozen=True)
class Directions:
    """A few directions in which the channel means of a tensor vary.

    Attributes
    ----------
    codes : ndarray
        int8 ``[IC, R]``: means are projected on these, each column having a scale of its own.
    lift : ndarray
        float64 ``[IC, R]``, the way back: ``lift @ (codes.T @ means)`` is what the means have in
        the span of the codes.
    """

    codes: Array
    lift: Array

    @staticmethod
    def of(basis: Array) -> "Directions":
        """Round the columns of a basis ``[IC, R]``."""
        codes, _ = _to_codes(basis, axis=0)
        return Directions(codes, np.linalg.pinv(codes.T.astype(np.float64)))


@dataclass(frozen=True)
class Correction:
    """The shift by the rounding of the weights as a function of the input's channel means.

    Attributes
    ----------
    matrix : ndarray
        int8 ``[R, OC]``; of a depthwise layer float32 ``[C]``.
    scale : ndarray or None
        float32 ``[R]`` of the matrix's rows; None for a depthwise layer.
    basis : ndarray or None
        int8 ``[IC, R]``; None where the rows are the input's channels.
    """

    matrix: Array
    scale: F32 | None
    basis: Array | None

    def shift(self, mean: Array) -> Array:
        """The shift ``[OC]`` at channel means ``[IC]``."""
        if self.scale is None:
            return self.matrix * mean
        z = mean if self.basis is None else self.basis.T.astype(np.float64) @ mean
        return (z * self.scale) @ self.matrix.astype(np.float64)


def sampling(shape: tuple[int, ...], most: int = MAX_SAMPLED_POSITIONS) -> Sampling:
    """A grid of about `most` positions of an NHWC (or ``[N, C]``) tensor, fewer of a wide one.

    A wide tensor's range and correction are sums over many channels, whose sampling errors average
    out.  The grid is about as dense down as across.  Of few channels whole rows are read, which
    several positions of a vector share.  A tensor has one sampling, so that all its readers share
    its sums.
    """
    if len(shape) == 2:
        return Sampling((1, 1))
    height, width, channels = shape[1:]
    wanted = min(most, max(most * MAX_SAMPLED_CHANNELS // channels, MIN_SAMPLED_POSITIONS))
    every = max(1.0, height * width / wanted)
    if channels < NARROW_CHANNELS:
        return Sampling((min(height, math.ceil(every)), 1))
    down = min(height, math.ceil(every / min(width, math.isqrt(int(every)))))
    return Sampling((down, min(width, math.ceil(every / down))))


def patch_gamma(geometry: Geometry, most: int = 64) -> int:
    """Stride of the sampled output positions of the `iid` surrogate, at most `most` of them."""
    if len(geometry.y_shape) == 2:
        return 1
    gamma = 1
    while np.prod([-(-d // gamma) for d in geometry.y_shape[1:3]]) > most:
        gamma += 1
    return gamma


def patch_count(geometry: Geometry, gamma: int) -> int:
    """Output positions sampled with stride `gamma`."""
    if len(geometry.y_shape) == 2:
        return 1
    return int(np.prod([-(-d // gamma) for d in geometry.y_shape[1:3]]))


def tap_shares(geometry: Geometry) -> Array:
    """Share of output positions at which a kernel tap ``[KH, KW]`` reads inside the image."""
    if len(geometry.x_shape) == 2:
        return np.ones((1, 1))
    shares = []
    for axis in range(2):
        start = np.arange(geometry.y_shape[axis + 1]) * geometry.strides[axis]
        tap = np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
        at = start[:, None] + tap[None, :] - geometry.pads[axis]
        shares.append(((at >= 0) & (at < geometry.x_shape[axis + 1])).mean(0))
    inside: Array = np.multiply.outer(shares[0], shares[1])
    return inside


def tap_sums(weights: Array, geometry: Geometry) -> tuple[Array, Array]:
    """Sums over taps of w and w squared, ``[OC, IC / groups]``, each tap by its share inside."""
    share = tap_shares(geometry)[None, :, :, None]
    w = weights.astype(np.float64)
    return (w * share).sum((1, 2)), (w * w * share).sum((1, 2))


def expand_groups(by_group: Array, groups: int) -> Array:
    """``[OC, IC / groups]`` to the block matrix ``[OC, IC]``."""
    if groups == 1:
        return by_group
    oc, width = by_group.shape
    block = np.zeros((oc, width * groups))
    for g in range(groups):
        rows = slice(g * oc // groups, (g + 1) * oc // groups)
        block[rows, g * width : (g + 1) * width] = by_group[rows]
    return block


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


def predicted_correction(
    weights: Array, rounded: Array, geometry: Geometry, directions: Directions | None
) -> Correction | None:
    """What rounding takes from each channel's mean, by input; None where it changes no weight."""
    lost = tap_sums(weights.astype(np.float64) - rounded.astype(np.float64), geometry)[0]
    if not lost.any():
        return None
    if geometry.depthwise:
        return Correction(f32(lost[:, 0]), None, None)
    matrix = expand_groups(lost, geometry.groups)
    matrix = (matrix if directions is None else matrix @ directions.lift).T
    codes, scale = _to_codes(matrix, axis=1)
    return Correction(codes, f32(scale), None if directions is None else directions.codes)


def static_correction(
    weights: Array, rounded: Array, geometry: Geometry, tap_means: Array
) -> Array:  # fmt: skip
    """Shift ``[OC]`` that rounding causes at the input means `tap_means` ``[KH, KW, IC]``."""
    lost = weights.astype(np.float64) - rounded.astype(np.float64)
    groups, (kh, kw) = geometry.groups, lost.shape[1:3]
    by_group = lost.reshape(groups, -1, kh, kw, lost.shape[3])
    means = tap_means.reshape(kh, kw, groups, -1)
    shift: Array = np.einsum("gohwi,hwgi->go", by_group, means).reshape(-1)
    return shift


def surrogate_directions(basis: Array | None) -> Directions | None:
    """The directions that a surrogate reads: few, as its range averages over channels."""
    return None if basis is None else Directions.of(basis[:, :SURROGATE_RANK])


def correction_directions(basis: Array | None, weight_bits: int) -> Directions | None:
    """The directions that a correction reads: more for coarser weights, which shift more.

    None, for the channels themselves, where that is not less.
    """
    rank = EIGHT_BIT_RANK if weight_bits >= 8 else BASIS_RANK
    if basis is None or rank >= len(basis):
        return None
    return Directions.of(basis[:, :rank])


def principal_basis(means: Array, rank: int = BASIS_RANK) -> Array | None:
    """Orthonormal basis ``[IC, R]`` of the directions channel means ``[samples, IC]`` vary in.

    Uncentred, so that a scaled input stays in its span.  None (no projection) for few channels.
    """
    if means.shape[1] <= BASIS_FROM_CHANNELS:
        return None
    _, _, directions = np.linalg.svd(means.astype(np.float64), full_matrices=False)
    sign = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])
    basis: Array = (directions * sign[:, None])[:rank].T
    return basis.astype(np.float32)


def f32(values: Array) -> F32:
    """Contiguous float32."""
    return np.ascontiguousarray(values, dtype=np.float32)


def _to_codes(values: Array, axis: int) -> tuple[Array, Array]:
    """int8 codes, and the scales that the slices along `axis` have been divided by."""
    largest = np.abs(values).max(axis)
    scale = np.where(largest > 0, largest, 1.0) / LARGEST_CODE
    return np.rint(values / np.expand_dims(scale, axis)).astype(np.int8), scale
