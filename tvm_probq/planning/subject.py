"""What is planned: a model, its sensitivities, and the hardware that decides sizes and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tvm_probq import __version__
from tvm_probq.build.artefact import record_bytes
from tvm_probq.build.memory import Peak
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import PlanError
from tvm_probq.frontend.onnx import Model
from tvm_probq.frontend.shapes import counted_samples
from tvm_probq.latency.estimator import Estimator
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.options import Option
from tvm_probq.planning.sizes import NetworkSizes, Pricing
from tvm_probq.planning.study import Study
from tvm_probq.planning.table import table_key
from tvm_probq.target.profile import TargetProfile
from tvm_probq.tuning.database import shipped_database

# Small samples go through the simulator together.
BATCH_VALUES, LARGEST_BATCH = 1 << 16, 16

Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Subject:
    """What is planned.

    Attributes
    ----------
    model : Model
        Of batch 1.
    study : Study
        Its sensitivities, of a batch that is fast to simulate.
    key : dict
        What these depend on.
    pricing : Pricing
        What its networks cost on the target.
    """

    model: Model
    study: Study
    key: dict[str, Any]
    pricing: Pricing

    @property
    def target_key(self) -> str:
        """What sizes and times depend on, beside `key` and the option."""
        estimator = self.pricing.estimator
        known = "" if estimator is None else estimator.identity
        return f"{__version__} {self.pricing.target} {known}"

    @property
    def is_measured(self) -> bool:
        """Whether kernels of the target were measured."""
        return self.pricing.estimator is not None and self.pricing.estimator.measured

    def sizes(self, option: Option) -> NetworkSizes:
        """Bytes and time with one option for all layers."""
        return self.pricing.of_option(self._fastest, self.study.layers, option)

    def reference_peak(self) -> Peak:
        """The peak of activations with w8a8."""
        return self.pricing.of_plan(self._fastest)[1]

    @property
    def _fastest(self) -> Plan:
        """The reference, rounded as is fastest: the bytes are the same however that is done."""
        layers = {n: replace(p, rounding="nearest") for n, p in self.study.plan.layers.items()}
        return Plan(replace(self.study.plan.default, rounding="nearest"), layers)


def check_float(model: Model) -> None:
    """Raise a `PlanError` for a model that keeps the parameters of its file."""
    if model.keeps_parameters:
        raise PlanError(
            "the model is quantized already",
            where=model.source,
            why="it keeps the parameters of its file",
            fix="give --requantize (in Python requantize=True to load_model) to take it as the "
            "float model that it stands for",
        )


def subject_of(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    samples: Sequence[Inputs],
    profile: TargetProfile,
    estimator: Estimator | None,
    *,
    load: Callable[[int], Model] | None = None,
    data_hash: str = "",
) -> Subject:
    """What is planned, on samples that the record should not have seen.

    Parameters
    ----------
    model : Model
        Of batch 1.
    plan : Plan
        The reference: w8a8 in one mode, for all layers that do not stay float.
    record : CalibrationRecord
        Of the model.
    samples : sequence of tuple of ndarray
        Inputs of the model, each of one sample.
    profile : TargetProfile
        The hardware.
    estimator : Estimator or None
        Of the hardware, see `tvm_probq.latency.estimator.estimator_of`.
    load : callable, optional
        Gives the model of another batch: samples that go through the simulator together are faster.
    data_hash : str, optional
        Names the samples in a file of sensitivities.

    Raises
    ------
    PlanError
        If the model keeps the parameters of its file, or there is no sample.
    """
    check_float(model)
    if not samples:
        raise PlanError("there is no sample to measure on", where=model.source, fix="give some")
    one_sample = counted_samples((*model.inputs, *model.outputs)) == 1
    batch = _batch(samples) if one_sample and load is not None else 1
    batched = model if batch == 1 or load is None else load(batch)
    key = table_key(model.sha256, record_bytes(record), data_hash, len(samples), plan)
    study = Study(batched, plan, record, _layers(model, plan), _stacked(samples, batch))
    tiles = shipped_database(profile.name)
    pricing = Pricing(model, record, profile.target(), tiles, estimator)
    return Subject(model, study, key, pricing)


def _layers(model: Model, plan: Plan) -> list[str]:
    """Layers with weights that are computed in integers."""
    marked = marked_tensors(model.mod).items()
    found = [name for name, m in marked if m.layer is not None and m.quantized]
    return [name for name in found if plan.layer(name).mode != "float"]


def _batch(samples: Sequence[Inputs]) -> int:
    """How many samples to run together: a divisor of their number."""
    values = sum(part.size for part in samples[0])
    most = min(LARGEST_BATCH, BATCH_VALUES // max(values, 1))
    return max(n for n in range(1, max(most, 1) + 1) if len(samples) % n == 0)


def _stacked(samples: Sequence[Inputs], batch: int) -> list[Inputs]:
    groups = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    return [tuple(np.concatenate(parts) for parts in zip(*g, strict=True)) for g in groups]
