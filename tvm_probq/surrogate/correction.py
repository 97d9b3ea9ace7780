"""The shift of each output channel by the rounding of the weights."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.ir.layers import Geometry
from tvm_probq.simulator.arithmetic import F32, Array
from tvm_probq.surrogate.constants import f32
from tvm_probq.surrogate.directions import Directions, to_codes
from tvm_probq.surrogate.taps import expand_groups, tap_sums


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
    codes, scale = to_codes(matrix, axis=1)
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
