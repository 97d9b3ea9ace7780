"""Rounding of weights with error feedback: each error is taken up by weights that read alike."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.quantization.weights import RoundedWeights, round_weights
from tvm_probq.simulator.arithmetic import Array

# Of the inputs of two taps of a kernel, within one channel: images and feature maps are smooth.
TAP_CORRELATION = 0.8
SWEEPS = 3
# Directions in which inputs vary together, and the share of the mean variance added to all.
RANK = 32
DAMPING = 0.01


@dataclass(frozen=True)
class InputSpread:
    """Covariance of a layer's input channels, ``diag(rest) + factor @ factor.T``.

    Attributes
    ----------
    rest : ndarray
        float64 ``[IC]``, positive.
    factor : ndarray
        float64 ``[IC, R]``.
    """

    rest: Array
    factor: Array

    @classmethod
    def unknown(cls, channels: int) -> "InputSpread":
        """Of channels that vary alike, each by itself."""
        return cls(np.ones(channels), np.zeros((channels, 0)))

    @classmethod
    def of(cls, covariance: Array) -> "InputSpread":
        """The leading directions of a covariance ``[IC, IC]``, and the variance beside them."""
        mean = float(np.trace(covariance)) / len(covariance)
        if not mean > 0:
            return cls.unknown(len(covariance))
        values, vectors = np.linalg.eigh(covariance)
        factor = vectors[:, -RANK:] * np.sqrt(np.maximum(values[-RANK:], 0.0))
        left = np.maximum(np.diag(covariance) - (factor**2).sum(1), 0.0)
        return cls(left + DAMPING * mean, factor)

    @property
    def variance(self) -> Array:
        """Variance of each channel ``[IC]``."""
        variance: Array = self.rest + (self.factor**2).sum(1)
        return variance


def feedback_weights(weights: Array, bits: int, spread: InputSpread) -> RoundedWeights:
    """Round OHWI float32 weights so that the errors of one output channel cancel.

    The expected squared error of an output is ``e' (T x C) e``, with e the channel's rounding
    errors, C the covariance of the input channels and T that of the taps.  Codes start at the
    nearest ones; coordinate descent then changes one at a time, by whole steps, wherever that
    lessens it.  Scales are those of `round_weights`.

    Parameters
    ----------
    weights : ndarray
        float32 ``[OC, KH, KW, IC]``, IC within a group.
    bits : int
        2 to 8.
    spread : InputSpread
        C, of IC channels.
    """
    nearest = round_weights(weights, bits)
    shape = (weights.shape[0], -1, weights.shape[3])
    steps = weights.reshape(shape) / nearest.scale.astype(np.float64)[:, None, None]
    codes = nearest.codes.reshape(shape).astype(np.float64)
    limit, variance = 2 ** (bits - 1) - 1, spread.variance
    error = steps - codes
    common = error @ spread.factor
    for _ in range(SWEEPS):
        before = codes.copy()
        for channel in np.argsort(-variance, kind="stable"):
            row = spread.factor[channel]
            pull = error[:, :, channel] * spread.rest[channel] + common @ row
            for tap in range(codes.shape[1]):
                felt = (1 - TAP_CORRELATION) * pull[:, tap] + TAP_CORRELATION * pull.sum(1)
                old = codes[:, tap, channel]
                new = np.clip(old + np.rint(felt / variance[channel]), -limit, limit)
                change = new - old
                codes[:, tap, channel] = new
                error[:, tap, channel] -= change
                pull[:, tap] -= change * variance[channel]
                common[:, tap] -= change[:, None] * row
        if np.array_equal(codes, before):
            break
    return RoundedWeights(codes.astype(np.int8).reshape(weights.shape), nearest.scale)
