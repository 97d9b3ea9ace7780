"""How far the cost model is off on networks that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from tvm_probq.latency.measured import MeasuredKernels, Measurement
from tvm_probq.latency.model import LEAST_KERNELS, LatencyModel, distinct

F64 = npt.NDArray[np.float64]
QUANTILES = (0.05, 0.95)
BINS = 3  # of kernels by their time: short ones are harder to tell


@dataclass(frozen=True)
class HeldOut:
    """A network's kernels, estimated by a model of all other networks' kernels.

    Attributes
    ----------
    network : str
        Its name.
    us, estimated_us : ndarray of float64, shape [kernels]
        Measured and estimated times in microseconds, over all variants.
    totals : dict
        By variant, the estimated time of the whole network over the measured one.
    """

    network: str
    us: F64
    estimated_us: F64
    totals: Mapping[str, float]

    @property
    def errors(self) -> F64:
        """Relative errors of the kernels."""
        return np.abs(self.estimated_us / self.us - 1)


@dataclass(frozen=True)
class Quality:
    """The held-out estimates of all networks.

    Attributes
    ----------
    networks : tuple of HeldOut
        One by one.
    """

    networks: tuple[HeldOut, ...]

    @property
    def us(self) -> F64:
        """Measured times of all kernels."""
        return np.concatenate([n.us for n in self.networks])

    @property
    def estimated_us(self) -> F64:
        """Their estimates."""
        return np.concatenate([n.estimated_us for n in self.networks])

    @property
    def spearman(self) -> float:
        """Rank correlation of estimates and measured times."""
        return float(spearmanr(self.estimated_us, self.us).statistic)

    @property
    def median_error(self) -> float:
        """Median relative error of a kernel."""
        return float(np.median(np.concatenate([n.errors for n in self.networks])))

    def intervals(self) -> tuple[list[float], list[tuple[float, float]]]:
        """What nine of ten measured times are within, as shares of the estimate.

        Returns
        -------
        bounds : list of float
            Estimates in microseconds that part short, middling and long kernels.
        shares : list of (float, float)
            Of each of these kinds.
        """
        ratios, estimates = self.us / self.estimated_us, self.estimated_us
        bounds = [float(q) for q in np.quantile(estimates, np.arange(1, BINS) / BINS)]
        kinds = np.searchsorted(bounds, estimates)
        shares = [np.quantile(ratios[kinds == kind], QUANTILES) for kind in range(BINS)]
        return bounds, [(float(low), float(high)) for low, high in shares]


def can_hold_out(measured: MeasuredKernels) -> bool:
    """Whether there are several networks, and enough kernels without any one of them."""
    others = (
        len(distinct([m for m in measured.measurements if m.network != name])[0])
        for name in measured.networks
    )
    return len(measured.networks) > 1 and min(others) >= LEAST_KERNELS


def held_out(measured: MeasuredKernels) -> Quality:
    """Estimate each network by a model that was trained on the others.

    Raises
    ------
    TargetError
        If the other networks have too few kernels.
    """
    everything = measured.measurements
    found = []
    for network, variants in measured.networks.items():
        model = LatencyModel([m for m in everything if m.network != network])
        found.append(_compared(network, variants, model))
    return Quality(tuple(found))


def _compared(
    network: str, variants: Mapping[str, list[Measurement]], model: LatencyModel
) -> HeldOut:
    us, estimated, totals = [], [], {}
    for variant, rows in variants.items():
        measured = np.array([m.us for m in rows])
        guessed = model.us([m.kernel for m in rows])
        us.append(measured)
        estimated.append(guessed)
        totals[variant] = float(guessed.sum() / measured.sum())
    return HeldOut(network, np.concatenate(us), np.concatenate(estimated), totals)
