"""What the first calibration samples are for: what all later ones are measured against."""

from collections.abc import Mapping

import numpy as np

from tvm_probq.calibration.equalization import factors, is_equalized
from tvm_probq.calibration.features import channel_moments, correlation, second_moments
from tvm_probq.calibration.marked import Marked
from tvm_probq.calibration.record import TensorRecord
from tvm_probq.quantization.feedback import InputSpread
from tvm_probq.simulator.arithmetic import Array
from tvm_probq.surrogate.directions import principal_basis


class WarmUp:
    """Adds up the warm-up samples of one model."""

    def __init__(self) -> None:
        self.means: dict[str, list[Array]] = {}
        self.products: dict[str, Array] = {}
        self.peaks: dict[str, Array] = {}
        self.correlations: dict[str, list[float]] = {}

    def add_residual(self, name: str, branch: Array, residual: Array) -> None:
        """Add both terms of a sum, ``[N, ...]``, sample by sample."""
        found = self.correlations.setdefault(name, [])
        found += (correlation(branch[n : n + 1], residual[n : n + 1]) for n in range(len(branch)))

    def add_layer(self, marked: Marked, x: Array, y: Array) -> None:
        """Add the input and output of a layer, ``[N, ...]``."""
        name = marked.name
        self.means.setdefault(name, []).append(channel_moments(x)[0])
        if marked.layer is not None and marked.layer.geometry.groups == 1:
            products = np.float32(len(x)) * second_moments(x)
            self.products[name] = self.products.get(name, np.float32(0)) + products
        if is_equalized(marked):
            peak = np.abs(y).max((0, 1, 2)).astype(np.float64)
            self.peaks[name] = np.maximum(self.peaks.get(name, 0.0), peak)

    def fit(self, marked: Mapping[str, Marked]) -> dict[str, TensorRecord]:
        """Give new records of all tensors."""
        return {name: self._tensor(name, m) for name, m in marked.items()}

    def _tensor(self, name: str, marked: Marked) -> TensorRecord:
        tensor = TensorRecord(correlation=float(np.mean(self.correlations.get(name, [0.0]))))
        if marked.layer is None:
            return tensor
        means, geometry = np.concatenate(self.means[name]), marked.layer.geometry
        tensor.mean = np.zeros(means.shape[1])
        tensor.tap_means = np.zeros((*geometry.kernel, means.shape[1]))
        if not geometry.depthwise:
            tensor.basis = principal_basis(means)
        if name in self.products:
            mean = means.mean(0, dtype=np.float64)
            covariance = self.products[name] / len(means) - np.outer(mean, mean)
            tensor.spread = InputSpread.of(covariance)
        if name in self.peaks:
            tensor.factor = factors(self.peaks[name])
        return tensor
