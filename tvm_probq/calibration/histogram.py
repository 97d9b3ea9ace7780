"""A streaming histogram whose range doubles when a value falls outside."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import Array

BINS = 1024


def bin_counts(ordered: Array, low: float, high: float, bins: int) -> tuple[Array, Array]:
    """Count float32 values in bins of equal width, as `numpy.histogram` does.

    Parameters
    ----------
    ordered : Array
        ``[n]``, ascending, none outside the ends: sorting once and looking up the edges takes a
        third of the time of two histograms.
    low, high : float
        The ends.
    bins : int
        How many.

    Returns
    -------
    counts : Array
        int64 ``[bins]``; a value on an edge counts above it, on the last one below.
    edges : Array
        float32 ``[bins + 1]``.
    """
    edges = np.linspace(low, high, bins + 1).astype(np.float32)
    places = np.searchsorted(ordered, edges)
    places[-1] = len(ordered)
    return np.diff(places), edges


@dataclass
class Histogram:
    """Counts over ``[-width, width]``; memory does not depend on the number of values.

    Attributes
    ----------
    width : float
        Half range, a power of two; 0 until a value other than zero was seen.
    counts : Array
        int64 ``[BINS]``.
    low, high : float
        Smallest and largest value seen.
    """

    width: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = 0.0
    high: float = 0.0

    def update(self, ordered: Array) -> None:
        """Add float32 values ``[n]``, which are in ascending order."""
        low, high = float(ordered[0]), float(ordered[-1])
        self.low, self.high = min(self.low, low), max(self.high, high)
        needed = max(-low, high, 2.0**-60)
        if self.width == 0.0:
            self.width = float(2.0 ** np.ceil(np.log2(needed)))
        while self.width < needed:
            self._double()
        self.counts += bin_counts(ordered, -self.width, self.width, BINS)[0]

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
        self.width *= 2

    def centres(self) -> Array:
        """Middle of each bin."""
        edges = np.linspace(-self.width, self.width, BINS + 1)
        middle: Array = (edges[1:] + edges[:-1]) / 2
        return middle

    def to_json(self) -> dict[str, Any]:
        """Plain values; zero counts at both ends are left out."""
        used = np.flatnonzero(self.counts)
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        return {
            "width": self.width, "low": self.low, "high": self.high,
            "first": first, "counts": self.counts[first:last].tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Histogram":
        """The histogram `to_json` described."""
        counts = np.zeros(BINS, np.int64)
        counts[data["first"] : data["first"] + len(data["counts"])] = data["counts"]
        return cls(data["width"], counts, data["low"], data["high"])
