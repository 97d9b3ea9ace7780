"""Round-to-nearest weights, symmetric, one scale for each output channel."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.simulator.arithmetic import F32, Array

CLIP_CANDIDATES = np.linspace(1.0, 0.5, 26)
CLIPPED_BITS = 5
TINY = 2.0**-100


@dataclass(frozen=True)
class RoundedWeights:
    """int8 `codes` OHWI and float32 `scale` ``[OC]``."""

    codes: Array
    scale: F32

    def real(self) -> F32:
        """The weights that the codes stand for."""
        shape = (-1,) + (1,) * (self.codes.ndim - 1)
        return self.codes.astype(np.float32) * self.scale.reshape(shape)


def round_weights(weights: Array, bits: int, clip: str = "auto") -> RoundedWeights:
    """Round OHWI float32 weights to `bits` bits, codes in ``[-2**(bits-1) + 1, 2**(bits-1) - 1]``.

    The scale covers the channel's largest weight (`clip` ``none``), or it is the one of least
    squared error among clips down to half of that (``mse``); ``auto`` clips at 5 bits and fewer.
    A channel of zeros (or of values whose steps float32 cannot express) has the scale 1.
    """
    flat = weights.reshape(weights.shape[0], -1).astype(np.float64)
    limit = 2 ** (bits - 1) - 1
    peak = np.abs(flat).max(1, keepdims=True)
    best = np.where(peak > TINY, peak / limit, 1.0)
    if clip == "mse" or (clip == "auto" and bits <= CLIPPED_BITS):
        best = best * _best_clip(flat, best, limit)
    scale = best.astype(np.float32)
    codes = np.clip(np.rint(flat / scale), -limit, limit).astype(np.int8)
    return RoundedWeights(codes.reshape(weights.shape), scale[:, 0])


def _best_clip(flat: Array, scale: Array, limit: int) -> Array:
    errors = []
    for share in CLIP_CANDIDATES:
        step = scale * share
        rounded = np.clip(np.rint(flat / step), -limit, limit) * step
        errors.append(((flat - rounded) ** 2).sum(1))
    best: Array = CLIP_CANDIDATES[np.argmin(errors, axis=0)][:, None]
    return best
