"""What the first calibration samples are for: what all later ones are measured against."""

from collections.abc import Mapping

import numpy as np
from tvm.ir import IRModule

from tvm_probq.calibration.equalization import equalized_tensors
from tvm_probq.calibration.features import channel_moments, correlation, second_moments
from tvm_probq.calibration.marked import Marked
from tvm_probq.calibration.record import TensorRecord
from tvm_probq.quantization.feedback import InputSpread
from tvm_probq.simulator.arithmetic import Array, f32
from tvm_probq.surrogate.directions import principal_basis


class WarmUp:
    """Adds up the warm-up samples of one model."""

    def __init__(self, mod: IRModule) -> None:
        self.equalized = equalized_tensors(mod)
        self.means: dict[str, list[Array]] = {}
        self.products: dict[str, Array] = {}
        self.peaks: dict[str, Array] = {}
        self.correlations: dict[str, list[float]] = {}

    def add_residual(self, name: str, branch: Array, residual: Array) -> None:
        """Add both terms of a sum, ``[N, ...]``, sample by sample."""
        found = self.correlations.setdefault(name, [])
        found += (correlation(branch[n : n + 1], residual[n : n + 1]) for n in range(len(branch)))

    def add_layer(self, marked: Marked, x: Array) -> None:
        """Add the input of a layer, ``[N, ...]``."""
        name = marked.name
        self.means.setdefault(name, []).append(channel_moments(x)[0])
        if marked.layer is not None and marked.layer.geometry.groups == 1:
            added = np.float32(len(x)) * second_moments(x)
            self.products[name] = added + self.products.get(name, np.float32(0))

    def add_tensor(self, name: str, y: Array) -> None:
        """Add a stored tensor, ``[N, ..., C]``."""
        if name in self.equalized:
            peak = np.abs(y).reshape(-1, y.shape[-1]).max(0).astype(np.float64)
            self.peaks[name] = np.maximum(self.peaks.get(name, 0.0), peak)

    def fit(self, marked: Mapping[str, Marked], *, equalize: bool) -> dict[str, TensorRecord]:
        """Give new records of all tensors, with factors of channels if they are to have any."""
        peaks = self.peaks.items() if equalize else ()
        made = {name: self.equalized[name].factors(peak) for name, peak in peaks}
        read = {
            r: made[name] for name, e in self.equalized.items() if name in made for r in e.readers
        }
        records = {name: self._tensor(name, m, read.get(name)) for name, m in marked.items()}
        for name, factor in made.items():
            records[name].factor = factor
        return records

    def _tensor(self, name: str, marked: Marked, read: Array | None) -> TensorRecord:
        """The record of a tensor; its layer's input gets the factors `read`."""
        tensor = TensorRecord(correlation=float(np.mean(self.correlations.get(name, [0.0]))))
        if marked.layer is None:
            return tensor
        means, geometry = np.concatenate(self.means[name]), marked.layer.geometry
        factor = np.ones(means.shape[1]) if read is None else read
        tensor.mean = np.zeros(means.shape[1])
        tensor.tap_means = np.zeros((*geometry.kernel, means.shape[1]))
        if not geometry.depthwise:
            tensor.basis = principal_basis(f32(means * factor))
        if name in self.products:
            mean = means.mean(0, dtype=np.float64)
            covariance = self.products[name] / len(means) - np.outer(mean, mean)
            tensor.spread = InputSpread.of(covariance * np.outer(factor, factor))
        return tensor
