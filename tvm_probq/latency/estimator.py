"""How long kernels take on a target, from the best that is known of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import TargetError
from tvm_probq.latency.held_out import can_hold_out, held_out
from tvm_probq.latency.kernels import COUNTS, KernelCall
from tvm_probq.latency.measured import MeasuredKernels, shipped_measurements
from tvm_probq.latency.model import LatencyModel
from tvm_probq.latency.roofline import Roofline
from tvm_probq.target.profile import TargetProfile

F64 = npt.NDArray[np.float64]
# Work whose fastest measured rate bounds what an estimate may claim.
BOUNDING = ("dots", "constant_bytes")
LEAST_WORK = {"dots": 1e4, "constant_bytes": 1e5}


class Estimator(Protocol):
    """What plans ask for times."""

    @property
    def identity(self) -> str:
        """What estimates depend on."""

    @property
    def source(self) -> str:
        """What to say of estimates."""

    @property
    def measured(self) -> bool:
        """Whether they come from measurements of the target."""

    def us(self, kernels: Sequence[KernelCall], macs: Sequence[float]) -> F64:
        """Time of each kernel in microseconds, `macs` its multiply-accumulates."""

    def spread_us(self, kernels: Sequence[KernelCall]) -> tuple[float, float] | None:
        """How far below and above the sum of estimates the time may be; None without a clue."""


class LearnedEstimator:
    """Measured times where a kernel was measured, else those of a model of all measured kernels.

    No estimate is below what the work would take at the fastest measured rate.

    Parameters
    ----------
    kernels : MeasuredKernels
        Of the target.
    """

    measured = True

    def __init__(self, kernels: MeasuredKernels) -> None:
        self.kernels = kernels
        self._known = kernels.by_counts()

    @property
    def identity(self) -> str:
        """What estimates depend on."""
        text = repr(sorted(self._known.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def source(self) -> str:
        """What to say of estimates."""
        return f"{len(self._known)} kernels measured on {self.kernels.machine}"

    def us(self, kernels: Sequence[KernelCall], macs: Sequence[float]) -> F64:
        """Time of each kernel in microseconds."""
        del macs
        new = [k for k in kernels if k.counts not in self._known]
        guessed = dict(zip((k.counts for k in new), self._guessed(new), strict=True))
        return np.array([self._known.get(k.counts, guessed.get(k.counts, 0.0)) for k in kernels])

    def spread_us(self, kernels: Sequence[KernelCall]) -> tuple[float, float] | None:
        """How far below and above the sum of estimates nine of ten networks are.

        Measured kernels count as known. The others' errors add up as independent ones, but for
        those of kernels that do the same work. None where too little else was measured to tell how
        far estimates are off.
        """
        counted = Counter(k.counts for k in kernels if k.counts not in self._known)
        if not counted:
            return 0.0, 0.0
        if not can_hold_out(self.kernels):
            return None
        bounds, shares = self._intervals
        new = [k for k in {k.counts: k for k in kernels}.values() if k.counts in counted]
        guessed = self._guessed(new) * [counted[k.counts] for k in new]
        low, high = np.array([shares[i] for i in np.searchsorted(bounds, self._guessed(new))]).T
        below, above = guessed * np.maximum(1 - low, 0), guessed * np.maximum(high - 1, 0)
        return float(np.sqrt((below**2).sum())), float(np.sqrt((above**2).sum()))

    def _guessed(self, kernels: Sequence[KernelCall]) -> F64:
        if not kernels:
            return np.zeros(0)
        work = np.array([k.counts for k in kernels])
        bounds = [work[:, COUNTS.index(name)] / rate for name, rate in self._rates.items()]
        found: F64 = np.maximum.reduce([self._model.us(kernels), *bounds])
        return found

    @cached_property
    def _model(self) -> LatencyModel:
        return LatencyModel(self.kernels.measurements)

    @cached_property
    def _intervals(self) -> tuple[list[float], list[tuple[float, float]]]:
        return held_out(self.kernels).intervals()

    @cached_property
    def _rates(self) -> dict[str, float]:
        """The fastest measured rates of `BOUNDING`, a microsecond."""
        found = {}
        for name in BOUNDING:
            index = COUNTS.index(name)
            rates = [
                counts[index] / us
                for counts, us in self._known.items()
                if counts[index] >= LEAST_WORK[name]
            ]
            if rates:
                found[name] = max(rates)
        return found


def estimator_of(profile: TargetProfile, file: Path | None = None) -> Estimator | None:
    """The best that is known of a target: a file, what comes with it, or its peak figures.

    Returns
    -------
    Estimator or None
        None for a profile without any figures.

    Raises
    ------
    TargetError
        If the file is of another target.
    """
    kernels = shipped_measurements(profile.name) if file is None else MeasuredKernels.load(file)
    if kernels is None:
        return Roofline.of(profile)
    if kernels.target != profile.name:
        raise TargetError(
            "the measured kernels are of another target", where=str(file),
            why=f"they are of {kernels.target}, the plan is for {profile.name}",
            fix="give --target, or measure the target with `tvm-probq measure`",
        )  # fmt: skip
    return LearnedEstimator(kernels)
