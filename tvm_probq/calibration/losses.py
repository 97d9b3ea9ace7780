"""What each candidate interval of a surrogate would have cost, added up sample by sample."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_probq.calibration.histogram import bin_counts
from tvm_probq.simulator.arithmetic import F32, Array, f32
from tvm_probq.simulator.numerics import Activation
from tvm_probq.simulator.surrogates import map_interval

CANDIDATES = np.geomspace(0.35, 40.0, 40)
SAMPLE_BINS = 1024


@dataclass
class IntervalLosses:
    """Losses over the grid `CANDIDATES` for the low end (alpha) and the high end (beta).

    Attributes
    ----------
    share, worst, squared : Array
        float64 ``[2, K]``: sum over samples and largest of the share of values beyond the end; sum
        of the mean squared distance beyond it.  Row 0 is the low end.
    width : Array
        float64 ``[K, K]``: sum of the squared interval width for (alpha, beta).
    samples : int
        Samples added.
    """

    share: Array = field(default_factory=lambda: np.zeros((2, len(CANDIDATES))))
    worst: Array = field(default_factory=lambda: np.zeros((2, len(CANDIDATES))))
    squared: Array = field(default_factory=lambda: np.zeros((2, len(CANDIDATES))))
    width: Array = field(default_factory=lambda: np.zeros((len(CANDIDATES),) * 2))
    samples: int = 0

    def update(self, y: "Tails", centre: float, sigma: float, activation: Activation) -> None:
        """Add one sample: a summary of its output and the surrogate's mean and deviation."""
        low, high = candidate_ends(centre, sigma, activation)
        for row, (share, squared) in enumerate((y.below(low), y.above(high))):
            self.share[row] += share
            self.worst[row] = np.maximum(self.worst[row], share)
            self.squared[row] += squared
        self.width += (high[None, :] - low[:, None]) ** 2
        self.samples += 1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        arrays = {n: getattr(self, n).tolist() for n in ("share", "worst", "squared", "width")}
        return {"samples": self.samples, **arrays}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "IntervalLosses":
        """The losses `to_json` described."""
        arrays = {n: np.asarray(data[n]) for n in ("share", "worst", "squared", "width")}
        return cls(samples=int(data["samples"]), **arrays)


def candidate_ends(centre: float, sigma: float, activation: Activation) -> tuple[Array, Array]:
    """Low ends ``[K]`` and high ends ``[K]`` after the activation, zero included."""
    grid = f32(CANDIDATES)
    low, high = map_interval(f32(centre - grid * sigma), f32(centre + grid * sigma), activation)
    return np.minimum(low, 0.0).astype(np.float64), np.maximum(high, 0.0).astype(np.float64)


@dataclass(frozen=True)
class Tails:
    """Sorted summary of one tensor: bin values, and running counts and sums from either side."""

    values: Array
    counts: Array

    def above(self, ends: Array) -> tuple[Array, Array]:
        """Share of values above each end and their mean squared distance from it."""
        excess = np.maximum(self.values[None, :] - ends[:, None], 0.0)
        total = self.counts.sum()
        share = ((excess > 0) @ self.counts) / total
        return share, (excess**2 @ self.counts) / total

    def below(self, ends: Array) -> tuple[Array, Array]:
        """The same below each end."""
        return Tails(-self.values, self.counts).above(-ends)


def tails(ordered: Array) -> Tails:
    """Summary of one sample's float32 values ``[n]``, ascending; extreme bins hold the extremes."""
    low, high = float(ordered[0]), float(ordered[-1])
    counts, edges = bin_counts(ordered, low, high, SAMPLE_BINS)
    values = (edges[1:].astype(np.float64) + edges[:-1]) / 2
    values[0], values[-1] = low, high
    used = counts > 0
    return Tails(values[used], counts[used].astype(np.float64))


def sigma_of(variance: F32) -> Array:
    """Standard deviation, never negative."""
    return np.sqrt(np.maximum(variance.astype(np.float64), 0.0))
