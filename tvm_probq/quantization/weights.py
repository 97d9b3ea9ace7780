"""Round-to-nearest weights, symmetric, one scale for each output channel or for runs of inputs.

With groups the scale of a run of input channels is a whole multiple of the output channel's: the
weights of the run are multiples ``q * m`` of its multiplier m, with ``q`` of few bits, and still
8-bit integers under one scale.
"""

from dataclasses import dataclass

import numpy as np

from tvm_probq.simulator.arithmetic import F32, Array

CLIP_CANDIDATES = np.linspace(1.0, 0.5, 26)
CLIPPED_BITS = 5
TINY = 2.0**-100
WEIGHT_GROUPS = (32, 64, 128)  # input channels that may share a multiplier
GROUPED_BITS = range(2, 7)  # of codes that leave room for multipliers
LARGEST_CODE = 127


@dataclass(frozen=True)
class RoundedWeights:
    """int8 `codes` OHWI, multiplied already, and float32 `scale` ``[OC]``."""

    codes: Array
    scale: F32

    def real(self) -> F32:
        """The weights that the codes stand for."""
        shape = (-1,) + (1,) * (self.codes.ndim - 1)
        return self.codes.astype(np.float32) * self.scale.reshape(shape)


def round_weights(weights: Array, bits: int, clip: str = "auto", group: int = 0) -> RoundedWeights:
    """Round OHWI float32 weights to `bits` bits, codes in ``[-2**(bits-1) + 1, 2**(bits-1) - 1]``.

    The scale covers the channel's largest weight (`clip` ``none``), or it is the one of least
    squared error among clips down to half of that (``mse``); ``auto`` clips at 5 bits and fewer.
    A channel of zeros (or of values whose steps float32 cannot express) has the scale 1.  With
    `group` every so many input channels have such a scale, to a multiple of the output channel's.
    """
    scale, multipliers = weight_scales(weights, bits, clip, group)
    limit, times = 2 ** (bits - 1) - 1, multipliers[:, None, None].astype(np.float64)
    steps = scale.reshape(-1, 1, 1, 1) * times
    codes = np.clip(np.rint(weights.astype(np.float64) / steps), -limit, limit) * times
    return RoundedWeights(codes.astype(np.int8), scale)


def weight_scales(weights: Array, bits: int, clip: str, group: int) -> tuple[F32, F32]:
    """Scales of `round_weights` ``[OC]``, and the multipliers of the inputs ``[OC, IC]``."""
    channels, inputs, limit = len(weights), weights.shape[3], 2 ** (bits - 1) - 1
    clips = clip == "mse" or (clip == "auto" and bits <= CLIPPED_BITS)
    shares = CLIP_CANDIDATES[:, None] if clips else np.ones((1, 1))
    grouped = 0 < group < inputs
    parts = np.split(weights.astype(np.float64), range(group, inputs, group) if grouped else [], 3)
    runs = [part.reshape(channels, -1) for part in parts]
    peaks = [np.abs(run).max(1) for run in runs]
    tried = [np.where(peak > TINY, peak / limit, 0.0) * shares for peak in peaks]
    best = [_least_error(run, steps, limit) for run, steps in zip(runs, tried, strict=True)]
    most = LARGEST_CODE // limit if grouped else 1
    largest = np.max(best, axis=0) / most
    scale = np.where(largest > 0, largest, 1.0).astype(np.float32)
    if not grouped:
        return scale, np.ones((channels, inputs), np.float32)
    whole = np.rint if clips else np.ceil
    found = []
    for part, run, steps in zip(parts, runs, tried, strict=True):
        multipliers = np.clip(whole(steps / scale), 1, most)
        chosen = _least_error(run, multipliers * scale, limit) / scale
        found += [np.rint(chosen)] * part.shape[3]
    return scale, np.stack(found, axis=1).astype(np.float32)


def _least_error(flat: Array, steps: Array, limit: int) -> Array:
    """Of `steps` ``[S, OC]`` the one of least squared error for each row of `flat` ``[OC, N]``."""
    errors = []
    for step in np.where(steps > 0, steps, 1.0)[..., None]:
        rounded = np.clip(np.rint(flat / step), -limit, limit) * step
        errors.append(((flat - rounded) ** 2).sum(1))
    best: Array = steps[np.argmin(errors, axis=0), np.arange(len(flat))]
    return best
