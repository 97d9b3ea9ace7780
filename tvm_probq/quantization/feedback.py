"""Rounding of weights with error feedback: each error is taken up by weights that read alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import linalg

from tvm_probq.quantization.weights import RoundedWeights, weight_scales
from tvm_probq.simulator.arithmetic import F32, Array, f32

# Of the inputs of two taps of a kernel, within one channel: images and feature maps are smooth.
TAP_CORRELATION = 0.8
SWEEPS = 3
# Directions in which inputs vary together, and the share of the mean variance added to all.
RANK = 32
DAMPING = 0.01
DIGITS = 4
# Scales tried, over the usual one, and how many for how many weights: with few weights a channel
# there is often one that fits most of them.
SCALE_SHARES = (0.9, 1.2)
MAX_SCALES = 64
TRIED_WEIGHTS = 2**19


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
        values, vectors = _leading_directions(covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
        left = np.maximum(np.diag(covariance) - (factor**2).sum(1), 0.0)
        return cls(_significant(left + DAMPING * mean), _significant(factor))

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {"rest": self.rest.tolist(), "factor": self.factor.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "InputSpread":
        """Read what `to_json` gave."""
        rest, factor = (np.asarray(data[name], np.float64) for name in ("rest", "factor"))
        return cls(rest, factor.reshape(len(rest), -1))

    @property
    def variance(self) -> Array:
        """Variance of each channel ``[IC]``."""
        variance: Array = self.rest + (self.factor**2).sum(1)
        return variance


def _significant(values: Array) -> Array:
    """Values to `DIGITS` decimal digits: what is enough here, and short in a file."""
    known = np.where(values == 0, 1.0, np.abs(values))
    unit = 10.0 ** (DIGITS - 1 - np.floor(np.log10(known)))
    return np.asarray(np.rint(values * unit) / unit)


def _leading_directions(covariance: Array) -> tuple[Array, Array]:
    """The `RANK` largest eigenvalues and their vectors in columns."""
    size = len(covariance)
    if size <= 2 * RANK:
        values, vectors = np.linalg.eigh(covariance)
        return values[-RANK:], vectors[:, -RANK:]
    # The start is fixed, so that a calibration gives the same record again.
    found: tuple[Array, Array] = linalg.eigsh(covariance, k=RANK, v0=np.ones(size), tol=1e-3)
    return found


def feedback_weights(
    weights: Array, bits: int, spread: InputSpread, clip: str = "auto", group: int = 0
) -> RoundedWeights:
    """Round OHWI float32 weights so that the errors of one output channel cancel.

    The expected squared error of an output is ``e' (T x C) e``, with e the channel's rounding
    errors, C the covariance of the input channels and T that of the taps.  Codes start at the
    nearest ones; coordinate descent then changes one at a time, by whole steps, wherever that
    lessens it.  Small layers try several scales for each output channel, around that of
    `round_weights`.

    Parameters
    ----------
    weights : ndarray
        float32 ``[OC, KH, KW, IC]``, IC within a group.
    bits : int
        2 to 8.
    spread : InputSpread
        C, of IC channels.
    clip, group
        See `round_weights`.
    """
    usual, multipliers = weight_scales(weights, bits, clip, group)
    count = min(MAX_SCALES, max(1, TRIED_WEIGHTS // weights.size))
    shares = np.r_[1.0, np.linspace(*SCALE_SHARES, count - 1)]
    scale = f32(shares[:, None] * usual)  # [S, OC]
    # One weight of all output channels and all scales lies together: [IC, KH * KW, S * OC].
    real = np.moveaxis(weights, (3, 0), (0, 3)).reshape(weights.shape[3], -1, 1, len(weights))
    steps = f32(real / scale).reshape(*real.shape[:2], -1)
    times = f32(np.tile(multipliers.T, count))[:, None]  # [IC, 1, S * OC]
    codes, error = _descend(steps, times, 2 ** (bits - 1) - 1, spread)
    best = np.argmin(error.reshape(scale.shape) * scale**2, axis=0)
    chosen = codes.reshape(*real.shape[:2], *scale.shape)[:, :, best, np.arange(len(weights))]
    chosen = np.moveaxis(chosen.reshape(-1, *weights.shape[1:3], len(weights)), (0, 3), (3, 0))
    return RoundedWeights(
        np.ascontiguousarray(chosen.astype(np.int8)), scale[best, np.arange(len(weights))]
    )


def _descend(steps: F32, times: F32, largest: int, spread: InputSpread) -> tuple[F32, F32]:
    """Codes of the weights `steps` ``[IC, T, OC]``, and the squared error ``[OC]`` of the outputs.

    Weights and errors are in steps of the scale; codes are up to `largest` multiples of `times`
    ``[IC, 1, OC]``.
    """
    rest, variance, factor = f32(spread.rest), f32(spread.variance), f32(spread.factor)
    limit = np.float32(largest)
    codes = np.clip(np.rint(steps / times), -limit, limit) * times
    error = steps - codes
    common = np.tensordot(factor, error, (0, 0))  # [R, T, OC]
    for _ in range(SWEEPS):
        changed = False
        for channel in np.argsort(-spread.variance, kind="stable"):
            pull = error[channel] * rest[channel] + np.tensordot(factor[channel], common, 1)
            changes = _change_taps(
                codes[channel], pull, variance[channel], times[channel, 0], limit
            )
            if changes.any():
                changed = True
                error[channel] -= changes
                common -= factor[channel][:, None, None] * changes
        if not changed:
            break
    share = np.float32(TAP_CORRELATION)
    own = np.tensordot(rest, error**2, 1).sum(0) + (common**2).sum((0, 1))
    shared = np.tensordot(rest, error.sum(1) ** 2, 1) + (common.sum(1) ** 2).sum(0)
    return codes, (1 - share) * own + share * shared


def _change_taps(codes: F32, pull: F32, variance: np.float32, times: F32, limit: np.float32) -> F32:
    """Change the codes ``[T, OC]`` of one input channel in place, tap by tap; give the changes.

    Codes are multiples of `times` ``[OC]``.  `pull` ``[T, OC]`` is the derivative of the squared
    error, without the correlation of taps.
    """
    share = np.float32(TAP_CORRELATION)
    total, changes = pull.sum(0), np.zeros_like(codes)
    for tap, code in enumerate(codes):
        felt = (1 - share) * pull[tap] + share * total
        moved = np.rint(felt / (variance * times)) * times
        new = np.clip(code + moved, -limit * times, limit * times)
        changes[tap] = new - code
        codes[tap] = new
        total -= changes[tap] * variance
    return changes
