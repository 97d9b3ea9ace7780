"""The few directions in which the channel means of a tensor vary."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.simulator.arithmetic import Array

BASIS_RANK = 64
SURROGATE_RANK = 8
EIGHT_BIT_RANK = 8
BASIS_FROM_CHANNELS = 16
LARGEST_CODE = 127


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
        codes, _ = to_codes(basis, axis=0)
        return Directions(codes, np.linalg.pinv(codes.T.astype(np.float64)))


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


def surrogate_directions(basis: Array | None) -> Directions | None:
    """The directions that a surrogate reads: few, as its range averages over channels."""
    return None if basis is None else Directions.of(basis[:, :SURROGATE_RANK])


def correction_directions(basis: Array | None, *, fine: bool) -> Directions | None:
    """The directions that a correction reads: more, `fine`, for coarse weights, which shift more.

    None, for the channels themselves, where that is not less.
    """
    rank = BASIS_RANK if fine else EIGHT_BIT_RANK
    if basis is None or rank >= len(basis):
        return None
    return Directions.of(basis[:, :rank])


def to_codes(values: Array, axis: int) -> tuple[Array, Array]:
    """int8 codes, and the scales that the slices along `axis` have been divided by."""
    largest = np.abs(values).max(axis)
    scale = np.where(largest > 0, largest, 1.0) / LARGEST_CODE
    return np.rint(values / np.expand_dims(scale, axis)).astype(np.int8), scale
