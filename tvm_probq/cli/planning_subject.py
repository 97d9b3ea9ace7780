"""The model that ``tvm-probq plan`` is about, its samples, and what decides its sensitivities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_probq import __version__
from tvm_probq.cli import calibrate, plans, sources
from tvm_probq.cli.samples import Samples
from tvm_probq.data.cards import Card
from tvm_probq.errors import UsageError
from tvm_probq.frontend.shapes import counted_samples
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.target.profile import TargetProfile

if TYPE_CHECKING:
    from tvm_probq.build.memory import Peak
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.latency.estimator import Estimator
    from tvm_probq.latency.network import NetworkLatency
    from tvm_probq.planning.options import Option
    from tvm_probq.planning.sizes import NetworkSizes
    from tvm_probq.planning.study import Study

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
    target : tvm.target.Target
        Whose kernels decide the bytes.
    tiles : Tiles or None
        Loop sizes of these kernels.
    estimator : Estimator or None
        Knows how long they take, where anything is known.
    """

    model: Model
    study: Study
    key: dict[str, Any]
    target: Any
    tiles: Any
    estimator: Estimator | None

    @property
    def target_key(self) -> str:
        """What sizes and times depend on, beside `key` and the option."""
        known = "" if self.estimator is None else self.estimator.identity
        return f"{__version__} {self.target} {known}"

    def sizes(self, option: Option) -> NetworkSizes:
        """Bytes and time with one option for all layers."""
        from tvm_probq.planning.sizes import float_costs, option_costs

        if option.is_float:
            return float_costs(self.model, self._fastest, *self._rest, self.study.layers)
        return option_costs(self.model, self._fastest, *self._rest, self.study.layers, option)

    def reference_peak(self) -> Peak:
        """The peak of activations with w8a8."""
        return self.costs_of(self._fastest)[1]

    def costs_of(self, plan: Plan) -> tuple[int, Peak, NetworkLatency]:
        """Bytes of the parameters with a plan, the peak of activations, the estimated time."""
        from tvm_probq.planning.sizes import plan_costs

        return plan_costs(self.model, plan, *self._rest)

    @property
    def _rest(self) -> tuple[CalibrationRecord, Any, Any, Estimator | None]:
        return self.study.record, self.target, self.tiles, self.estimator

    @property
    def _fastest(self) -> Plan:
        """The reference, rounded as is fastest: the bytes are the same however that is done."""
        layers = {n: replace(p, rounding="nearest") for n, p in self.study.plan.layers.items()}
        return Plan(replace(self.study.plan.default, rounding="nearest"), layers)


def load(args: argparse.Namespace, profile: TargetProfile, estimator: Estimator | None) -> Subject:
    """Load what the options of ``plan`` name.

    Raises
    ------
    UsageError
        If the model keeps the parameters of its file.
    """
    from tvm_probq.build.artefact import record_bytes
    from tvm_probq.planning.study import Study
    from tvm_probq.planning.table import table_key
    from tvm_probq.tuning.database import shipped_database

    card = sources.card_of(args)
    model = sources.model_of(args, card)
    if model.keeps_parameters:
        raise UsageError(
            "the model is quantized already",
            where=model.source,
            why="it keeps the parameters of its file",
            fix="give --requantize to take it as the float model that it stands for",
        )
    record = calibrate.load_record(args.calibration, model)
    plan = _base(args, model)
    samples, singles = _held_out(args, card, model, record)
    batch = _batch(singles) if counted_samples((*model.inputs, *model.outputs)) == 1 else 1
    batched = model if batch == 1 else sources.model_of(args, card, batch)
    key = table_key(model.sha256, record_bytes(record), samples.identity, len(singles), plan)
    study = Study(batched, plan, record, _layers(model, plan), _stacked(singles, batch))
    tiles = shipped_database(profile.name)
    return Subject(model, study, key, profile.target(), tiles, estimator)


def _held_out(
    args: argparse.Namespace, card: Card | None, model: Model, record: CalibrationRecord
) -> tuple[Samples, list[Inputs]]:
    """The samples behind those of the record, as far as there are any.

    What was fitted on samples, such as the directions of a correction, does better on these than
    on others.
    """
    wanted = args.samples
    further = argparse.Namespace(**{**vars(args), "samples": record.samples + wanted})
    samples = sources.samples_of(args if wanted < 1 else further, card, model)
    skipped = max(0, samples.count - wanted) if samples.identity == record.data_hash else 0
    stream = islice(samples.stream(), skipped, skipped + wanted)
    return samples, [s if isinstance(s, tuple) else (s,) for s in stream]


def _base(args: argparse.Namespace, model: Model) -> Plan:
    given = argparse.Namespace(scheme=[], mode=[], bits=[], skip=args.skip)
    return plans.override_layers(plan_of("w8a8", args.mode), given, sources.layer_names(model))


def _layers(model: Model, plan: Plan) -> list[str]:
    """Layers with weights that are computed in integers."""
    from tvm_probq.calibration.marked import marked_tensors

    marked = marked_tensors(model.mod).items()
    found = [name for name, m in marked if m.layer is not None and m.quantized]
    return [name for name in found if plan.layer(name).mode != "float"]


def _batch(singles: Sequence[Inputs]) -> int:
    """How many samples to run together: a divisor of their number."""
    values = sum(part.size for part in singles[0])
    most = min(LARGEST_BATCH, BATCH_VALUES // max(values, 1))
    return max(n for n in range(1, max(most, 1) + 1) if len(singles) % n == 0)


def _stacked(singles: Sequence[Inputs], batch: int) -> list[Inputs]:
    groups = [singles[i : i + batch] for i in range(0, len(singles), batch)]
    return [tuple(np.concatenate(parts) for parts in zip(*g, strict=True)) for g in groups]
