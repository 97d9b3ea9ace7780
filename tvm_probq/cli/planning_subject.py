"""The model that ``tvm-probq plan`` is about, its samples, and what decides its sensitivities."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import calibrate, plans, sources
from tvm_probq.cli.samples import Samples
from tvm_probq.data.cards import Card
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.target.profile import TargetProfile

if TYPE_CHECKING:
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.latency.estimator import Estimator
    from tvm_probq.planning.subject import Subject

Inputs = tuple[Any, ...]


def load(args: argparse.Namespace, profile: TargetProfile, estimator: Estimator | None) -> Subject:
    """Load what the options of ``plan`` name."""
    from tvm_probq.planning.subject import check_float, subject_of

    card = sources.card_of(args)
    model = sources.model_of(args, card)
    check_float(model)
    record = calibrate.load_record(args.calibration, model)
    samples, singles = _held_out(args, card, model, record)
    return subject_of(
        model, _base(args, model), record, singles, profile, estimator,
        load=lambda batch: sources.model_of(args, card, batch), data_hash=samples.identity,
    )  # fmt: skip


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
