"""Run calibration samples through the float module and add up what the record keeps."""

from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.ir import IRModule

from tvm_probq import ops
from tvm_probq.calibration.features import (
    Moments,
    Predictors,
    channel_moments,
    channel_predictor,
    residual_moments,
    tap_means,
)
from tvm_probq.calibration.losses import CANDIDATES, IntervalLosses, Tails, sigma_of, tails
from tvm_probq.calibration.marked import (
    PAIRS,
    Marked,
    layer_calls,
    marked_tensors,
    residual_adds,
)
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.calibration.warm_up import WarmUp
from tvm_probq.errors import CalibrationError
from tvm_probq.ir.layers import keeps_parameters
from tvm_probq.passes.equalize_channels import EqualizeChannels
from tvm_probq.simulator.arithmetic import Array, f32
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.simulator.surrogates import add_residual, product_moments

WARM_UP_SAMPLES = 128
SAVE_EVERY = 16
MIN_SAMPLES = 2
MIN_SIGMA = 1e-9

Sample = Array | tuple[Array, ...]


def collect(
    mod: IRModule, samples: Iterable[Sample], record: CalibrationRecord, path: Path | None = None
) -> CalibrationRecord:
    """Add `samples` to `record`, after those it already has.

    Parameters
    ----------
    mod : IRModule
        Annotated float module, usually of batch 1; samples of a larger batch count one by one.
    samples : iterable of Array or tuple of Array
        Model inputs: the only one, or a tuple of all in the order of the module's parameters.
        Always in the same order; those already in the record are skipped.
    record : CalibrationRecord
        New, or loaded from an interrupted run: the result is the same.
    path : Path, optional
        Where the record is saved every few samples.

    Raises
    ------
    CalibrationError
        With fewer than two samples, values that are not finite, or a model that keeps the
        parameters of its file.
    """
    if keeps_parameters(mod):
        raise CalibrationError(
            "the model keeps the parameters of its file", why="there is nothing to calibrate",
            fix="compile it without calibration, or give --requantize (in Python requantize=True) "
            "to take it as the float model that it stands for",
        )  # fmt: skip
    stream = iter(samples)
    head = list(islice(stream, WARM_UP_SAMPLES))
    if record.warm_up < len(head):  # new, or made from fewer samples than a warm-up takes
        _require(len(head))
        record.restart()
        Collector(mod, record).warm_up(head)
    equalize: tvm.transform.Pass = EqualizeChannels(record)
    collector = Collector(equalize(mod), record)
    done, saved = record.samples, -1
    for index, x in enumerate(chain(head, stream)):
        if index < done:
            continue
        collector.add(x, index)
        if path is not None and record.samples % SAVE_EVERY == 0:
            record.save(path)
            saved = record.samples
    _require(record.samples)
    if path is not None and saved != record.samples:
        record.save(path)
    return record


def _require(samples: int) -> None:
    if samples < MIN_SAMPLES:
        raise CalibrationError(
            f"{samples} calibration samples",
            why="ranges and their spread over inputs cannot be estimated from so few",
            fix=f"give at least {MIN_SAMPLES}, better 32 or more",
        )


class Collector:
    """Watches the simulator and fills a record."""

    def __init__(self, mod: IRModule, record: CalibrationRecord) -> None:
        self.simulator = Simulator(mod)
        self.record = record
        self.marked = marked_tensors(mod)
        self.products = layer_calls(self.marked)
        self.residual_adds = residual_adds(self.marked)
        self.pairs = {m.pair: name for name, m in self.marked.items() if m.kind in PAIRS}
        self.predictors: dict[str, Predictors] = {}
        self.channel_predictors: dict[str, Any] = {}
        self.inputs: dict[str, Array] = {}
        self.residuals: dict[str, Array] = {}
        self.branches: dict[str, Array] = {}

    def _watch(self, call: Any, value: Any, args: list[Any]) -> Marked | None:
        """Remember a layer's operands; gives the marker when `call` is one."""
        if call in self.products:
            self.inputs[self.products[call]] = args[0]
        if call in self.pairs:
            name = self.pairs[call]
            self.branches[name], self.residuals[name] = args
        if call in self.residual_adds:
            name = self.residual_adds[call]
            layer = self.marked[name].layer
            swap = layer is not None and call.args[0].same_as(layer.residual)
            self.branches[name], self.residuals[name] = args[::-1] if swap else args
        if not ops.is_probq(call, "layer"):
            return None
        name = str(call.attrs["name"])
        if not np.isfinite(value).all():
            raise CalibrationError(
                f"the layer {name} gives NaN or infinity for a calibration sample",
                why=f"{int((~np.isfinite(value)).sum())} of {value.size} values overflow",
                fix="check the scale of the samples and the weights of the model",
            )
        return self.marked[name]

    def warm_up(self, samples: list[Sample]) -> None:
        """Fit bases of the channel means, correlations with residuals and factors of channels."""
        warm_up = WarmUp(self.simulator.mod)

        def watch(call: Any, value: Any, args: list[Any]) -> None:
            marked = self._watch(call, value, args)
            if marked is None:
                return
            name = marked.name
            branch, residual = self.branches.pop(name, None), self.residuals.pop(name, None)
            if branch is not None and residual is not None and marked.kind != "matmul":
                warm_up.add_residual(name, branch, residual)
            warm_up.add_tensor(name, value)
            if marked.layer is not None:
                warm_up.add_layer(marked, self.inputs[name])

        for index, sample in enumerate(samples):
            self.simulator(*checked(sample, index), watch=watch)
        self.record.tensors = warm_up.fit(self.marked, equalize=self.record.equalize)
        self.record.warm_up = len(samples)

    def add(self, sample: Sample, index: int) -> None:
        """Add one sample."""

        def watch(call: Any, value: Any, args: list[Any]) -> None:
            marked = self._watch(call, value, args)
            if marked is not None:
                self._add_tensor(marked, value)

        self.simulator(*checked(sample, index), watch=watch)
        self.record.samples += 1

    def _add_tensor(self, marked: Marked, y: Array) -> None:
        tensor = self.record.tensor(marked.name)
        x = None if marked.layer is None else self.inputs.pop(marked.name)
        if marked.layer is not None and x is not None:
            tensor.mean += channel_moments(x)[0].mean(0)
            taps = [tap_means(one, marked.layer.geometry) for one in singles(x)]
            tensor.tap_means += np.mean(taps, axis=0)
        pair = self.branches.pop(marked.name, None), self.residuals.pop(marked.name, None)
        single = [None if v is None else singles(v) for v in (x, *pair)]
        for index, one in enumerate(singles(y)):
            self._add_single(marked, one, *(None if v is None else v[index] for v in single))

    def _add_single(
        self,
        marked: Marked,
        y: Array,
        x: Array | None,
        branch: Array | None,
        residual: Array | None,
    ) -> None:
        """Add the tensor of one sample of the batch."""
        tensor = self.record.tensor(marked.name)
        ordered = np.sort(y, axis=None)
        tensor.histogram.update(ordered)
        tensor.extremes += (float(ordered[0]), float(ordered[-1]))
        if marked.kind in PAIRS and branch is not None and residual is not None:
            self._add_pair_losses(marked, branch, residual, tails(ordered))
        if x is not None and marked.kind in ("conv2d", "dense"):
            moments = None if residual is None else residual_moments(residual)
            self._add_losses(marked, x, moments, tails(ordered))
            if marked.feeds_depthwise and residual is None:
                self._add_channels(marked, x, y)

    def _add_losses(
        self, marked: Marked, x: Array, residual: Moments | None, beyond: Tails
    ) -> None:
        tensor, layer = self.record.tensor(marked.name), marked.layer
        if layer is None:
            return
        if marked.name not in self.predictors:
            self.predictors[marked.name] = Predictors.of(layer, tensor.basis, tensor.correlation)
        kinds = ("moments",) if x.ndim == 2 else ("moments", "iid")
        activation = ops.parse_activation(layer.activation)
        for kind in kinds:
            centre, variance = self.predictors[marked.name].predict(kind, x, residual)
            losses = tensor.losses.setdefault(kind, IntervalLosses())
            losses.update(beyond, float(centre[0, 0]), float(sigma_of(variance)[0, 0]), activation)

    def _add_channels(self, marked: Marked, x: Array, y: Array) -> None:
        """Widen the ranges of single channels to hold this sample."""
        tensor, layer = self.record.tensor(marked.name), marked.layer
        if layer is None:
            return
        if marked.name not in self.channel_predictors:
            self.channel_predictors[marked.name] = channel_predictor(layer)
        mean, sigma = self.channel_predictors[marked.name](x)
        axes = tuple(range(1, y.ndim - 1))
        low, high = y.min(axes)[0].astype(np.float64), y.max(axes)[0].astype(np.float64)
        if not tensor.channels.size:
            tensor.channels = np.zeros((4, len(low)))
        spread = np.maximum(sigma, MIN_SIGMA)
        seen = np.stack([(mean - low) / spread, (high - mean) / spread, -low, high])
        seen[:2] = np.minimum(seen[:2], CANDIDATES[-1])
        tensor.channels = np.maximum(tensor.channels, seen)

    def _add_pair_losses(self, marked: Marked, a: Array, b: Array, beyond: Tails) -> None:
        """Losses of an operator on two stored tensors, predicted from the moments of both."""
        tensor = self.record.tensor(marked.name)
        moments = residual_moments(a), residual_moments(b)
        if marked.kind == "matmul":
            centre, variance = product_moments(*moments, f32(a.shape[-1]))
        else:
            centre, variance = add_residual(*moments[0], moments[1], tensor.correlation)
        losses = tensor.losses.setdefault(marked.kind, IntervalLosses())
        activation = ops.parse_activation(marked.activation)
        losses.update(beyond, float(centre[0, 0]), float(sigma_of(variance)[0, 0]), activation)


def singles(x: Array) -> list[Array]:
    """The samples of a batch, ``[1, ...]`` each."""
    return [x[n : n + 1] for n in range(len(x))]


def checked(sample: Sample, index: int) -> tuple[Array, ...]:
    """The inputs of sample `index`; raises `CalibrationError` for NaN or infinity in one."""
    inputs = sample if isinstance(sample, tuple) else (sample,)
    for x in inputs:
        if not np.isfinite(x).all():
            raise CalibrationError(
                "a calibration sample holds NaN or infinity",
                where=f"sample {index}, {int((~np.isfinite(x)).sum())} of {x.size} values",
                fix="remove the sample or repair its preprocessing",
            )
    return inputs
