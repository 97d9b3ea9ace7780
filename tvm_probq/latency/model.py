"""The cost model: from a kernel's work to its time, learned from measured kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from tvm_probq.errors import TargetError
from tvm_probq.latency.kernels import KernelCall
from tvm_probq.latency.measured import Measurement

F64 = npt.NDArray[np.float64]

LEAST_KERNELS = 50
TREES = 400
TREE = {
    "max_depth": 5, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.6, "min_child_weight": 3,
    "nthread": 1, "seed": 0,
}  # fmt: skip
LEAST_US = 1e-3


class LatencyModel:
    """Time of a kernel: a sum of costs of its work, corrected by gradient-boosted trees.

    The sum has a cost of at least zero for each count and for the call itself (non-negative least
    squares on relative errors). Trees (xgboost) then correct it by a factor that depends on the
    mix of work and grows with its amount alone: twice the same work never takes less time, and a
    kernel larger than any measured one is not cut off at the largest known time, as by trees alone.

    Parameters
    ----------
    measurements : sequence of Measurement
        Of one target.

    Raises
    ------
    TargetError
        If there are too few.
    """

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        import xgboost  # as slow to import as the rest of a command

        kernels, us = distinct(measurements)
        if len(kernels) < LEAST_KERNELS:
            raise TargetError(
                f"{len(kernels)} measured kernels are too few to tell the time of others",
                why=f"a cost model learns from at least {LEAST_KERNELS} different ones",
                fix="measure further networks and variants into the same file with "
                "`tvm-probq measure`",
            )
        work = _work(kernels)
        self._costs, _ = nnls(work / us[:, None], np.ones(len(us)))
        sums, features = self._described(kernels)
        grows = [0] * (features.shape[1] - 1) + [1]
        data = xgboost.DMatrix(features, np.log(us / sums))
        settings = {**TREE, "monotone_constraints": tuple(grows)}
        self._trees: Any = xgboost.train(settings, data, TREES)

    def us(self, kernels: Sequence[KernelCall]) -> F64:
        """Estimated time of each kernel in microseconds."""
        import xgboost

        if not kernels:
            return np.zeros(0)
        sums, features = self._described(kernels)
        factors: F64 = np.exp(self._trees.predict(xgboost.DMatrix(features)).astype(np.float64))
        return sums * factors

    def _described(self, kernels: Sequence[KernelCall]) -> tuple[F64, F64]:
        """Sums of costs; and what trees see: shares of them and of the counts, then the amount."""
        work = _work(kernels)
        parts = work * self._costs
        sums = np.maximum(parts.sum(axis=1), LEAST_US)
        counts = work[:, :-1]
        shares = counts / (counts.sum(axis=1, keepdims=True) + 1)
        layers = np.array([[float(bool(k.instruction))] for k in kernels])
        columns = [parts / sums[:, None], shares, layers, np.log(sums)[:, None]]
        return sums, np.concatenate(columns, axis=1)


def distinct(measurements: Sequence[Measurement]) -> tuple[list[KernelCall], F64]:
    """Kernels that differ in their work, and the median time of each in microseconds."""
    times: dict[tuple[float, ...], list[float]] = {}
    kernels: dict[tuple[float, ...], KernelCall] = {}
    for m in measurements:
        times.setdefault(m.kernel.counts, []).append(m.us)
        kernels.setdefault(m.kernel.counts, m.kernel)
    return list(kernels.values()), np.array([np.median(t) for t in times.values()])


def _work(kernels: Sequence[KernelCall]) -> F64:
    """Counts of each kernel, and a 1 for the call."""
    counts = np.array([k.counts for k in kernels], np.float64)
    return np.concatenate([counts, np.ones((len(kernels), 1))], axis=1)
