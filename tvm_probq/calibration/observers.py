"""Static ranges from a histogram: min-max, mean of the extremes, percentile, KL and MSE."""

from collections.abc import Callable

import numpy as np

from tvm_probq.calibration.histogram import Histogram
from tvm_probq.errors import PlanError
from tvm_probq.simulator.arithmetic import Array

Observer = Callable[[Histogram, int], tuple[float, float]]
STEPS = 100


def minmax(h: Histogram, bits: int) -> tuple[float, float]:
    """Smallest and largest value seen."""
    return h.low, h.high


def percentile(h: Histogram, bits: int, share: float = 0.9999) -> tuple[float, float]:
    """The interval that leaves ``(1 - share) / 2`` of the values out on either side."""
    cumulative = np.cumsum(h.counts) / max(h.counts.sum(), 1)
    centres = h.centres()
    outside = (1 - share) / 2
    first, last = (int(np.searchsorted(cumulative, s)) for s in (outside, 1 - outside))
    low, high = centres[first], centres[min(last, len(centres) - 1)]
    return max(float(min(low, 0.0)), h.low), min(float(max(high, 0.0)), h.high)


def mse(h: Histogram, bits: int) -> tuple[float, float]:
    """The interval of least squared error: clipping plus a uniform rounding error."""
    return _search(h, lambda low, high: _squared_error(h, low, high, bits))


def entropy(h: Histogram, bits: int) -> tuple[float, float]:
    """The interval of least Kullback-Leibler divergence to its quantization (TensorRT's rule)."""
    return _search(h, lambda low, high: _divergence(h, low, high, bits))


OBSERVERS: dict[str, Observer] = {
    "minmax": minmax, "percentile": percentile, "entropy": entropy, "mse": mse,
}  # fmt: skip


def static_range(h: Histogram, observer: str, bits: int) -> tuple[float, float]:
    """Interval chosen by the observer named `observer`.

    Raises
    ------
    PlanError
        When there is no such observer.
    """
    if observer not in OBSERVERS:
        raise PlanError(
            f"unknown observer {observer!r}", fix=f"use one of {', '.join(sorted(OBSERVERS))}"
        )
    low, high = OBSERVERS[observer](h, bits)
    return min(low, 0.0), max(high, 0.0)


def _search(h: Histogram, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """Shrink both ends together from the full range; the first least cost wins."""
    shares = np.linspace(1.0, 0.05, STEPS)
    costs = [cost(h.low * s, h.high * s) for s in shares]
    best = shares[int(np.argmin(costs))]
    return h.low * float(best), h.high * float(best)


def _squared_error(h: Histogram, low: float, high: float, bits: int) -> float:
    x, weight = h.centres(), h.counts
    clipped = np.clip(x, low, high)
    step = (high - low) / (2**bits - 1)
    inside = weight[(x >= low) & (x <= high)].sum()
    return float((weight * (x - clipped) ** 2).sum() + inside * step * step / 12)


def _divergence(h: Histogram, low: float, high: float, bits: int) -> float:
    """KL of the clipped histogram P and of P averaged within each quantization level, Q."""
    x = h.centres()
    p = np.zeros_like(h.counts, dtype=np.float64)
    index = np.clip(np.searchsorted(x, np.clip(x, low, high)), 0, len(x) - 1)
    np.add.at(p, index, h.counts)
    inside = (x >= low) & (x <= high)
    raw = np.where(inside, h.counts, 0).astype(np.float64)
    step = max((high - low) / (2**bits - 1), 1e-30)
    level = np.rint((np.clip(x, low, high) - low) / step).astype(np.int64)
    used = raw > 0
    if not used.any():
        return np.inf
    mass = np.bincount(level, weights=raw)
    members = np.bincount(level, weights=used.astype(np.float64))
    q = np.where(used, mass[level] / np.maximum(members[level], 1), 0.0)
    both = (p > 0) & (q > 0)
    p, q = p / p.sum(), q / q.sum()
    missing = float(p[(p > 0) & ~both].sum())
    return _kl(p[both], q[both]) + missing * 10.0


def _kl(p: Array, q: Array) -> float:
    return float((p * np.log(p / q)).sum())
