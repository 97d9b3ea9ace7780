"""How far the outputs of a network are from those of another: noise and divergence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import Array

# Of a row of probabilities: how far its sum may be from 1, and what counts as more than nothing.
SUM_TOLERANCE = 1e-3
SMALLEST = 1e-12


@dataclass
class Distance:
    """Differences of outputs, added up over samples.

    Noise is that of all floating-point outputs. Divergence and agreement are those of rows of
    class scores: of the only output, if it has at least two dimensions and two classes.
    """

    signal: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    same: int = 0

    def add(self, exact: Sequence[Any], found: Sequence[Any]) -> None:
        """Add the outputs of one call, of the network to compare with and of the other."""
        pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(exact, found, strict=True)]
        for wanted, value in pairs:
            if wanted.dtype.kind == "f" and wanted.ndim:
                rows = wanted.astype(np.float64).reshape(len(wanted), -1)
                self.signal += np.square(rows).sum(1).tolist()
                self.noise += np.square(rows - value.reshape(rows.shape)).sum(1).tolist()
        if len(pairs) == 1 and _are_scores(pairs[0][0]):
            wanted, value = (x.reshape(-1, x.shape[-1]) for x in pairs[0])
            p, q = _log_probabilities(wanted), _log_probabilities(value)
            self.divergence += (np.exp(p) * (p - q)).sum(1).tolist()
            self.same += int((wanted.argmax(1) == value.argmax(1)).sum())

    @property
    def share(self) -> float:
        """Noise by signal."""
        noise, signal = math.fsum(self.noise), math.fsum(self.signal)
        return noise / signal if signal else math.inf if noise else 0.0

    @property
    def kl(self) -> float | None:
        """Mean Kullback-Leibler divergence of a row, in nats; None without class scores."""
        return math.fsum(self.divergence) / len(self.divergence) if self.divergence else None

    @property
    def agreement(self) -> float | None:
        """Share of rows with the same largest score; None without class scores."""
        return self.same / len(self.divergence) if self.divergence else None


def decibels(share: float) -> float:
    """The signal-to-noise ratio in dB of a share of noise."""
    return -10.0 * math.log10(share) if share > 0 else math.inf


def _are_scores(values: Array) -> bool:
    return values.dtype.kind == "f" and values.ndim >= 2 and values.shape[-1] >= 2


def _log_probabilities(scores: Array) -> Array:
    """Logarithms of rows of probabilities, or of the softmax of rows of anything else."""
    rows = scores.astype(np.float64)
    if rows.min() >= 0 and np.allclose(rows.sum(1), 1.0, atol=SUM_TOLERANCE):
        return np.asarray(np.log(np.maximum(rows, SMALLEST)))
    with np.errstate(invalid="ignore"):  # of outputs that are not finite
        rows = rows - rows.max(1, keepdims=True)
    return np.asarray(rows - np.log(np.exp(rows).sum(1, keepdims=True)))
