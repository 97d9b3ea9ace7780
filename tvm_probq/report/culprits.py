"""What a network's noise comes from, and which options lessen it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm_probq.build.compile import in_units, quantized
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.metrics import Noise
from tvm_probq.errors import PlanError
from tvm_probq.frontend.onnx import Model
from tvm_probq.plan.plan import LayerPlan, Plan
from tvm_probq.report.layer_noise import Sample, output_noise

# Options of `compile`, each with the fields of a plan that it sets.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--rule coverage": {"rule": "coverage"},
    "--rule mse": {"rule": "mse"},
    "--per-channel": {"per_channel": True},
    "--rounding feedback": {"rounding": "feedback"},
    "--weight-clip mse": {"weight_clip": "mse"},
    "--weight-clip none": {"weight_clip": "none"},
    "--correction predicted": {"correction": "predicted"},
    "--mode dynamic": {"mode": "dynamic"},
    "--bits fixed": {"bits": "fixed"},
}


@dataclass(frozen=True)
class Subject:
    """A quantized model."""

    model: Model
    plan: Plan
    record: CalibrationRecord

    def noise(self, samples: Iterable[Sample]) -> Noise:
        """Noise of its outputs, simulated."""
        integer = quantized(self.model, self.plan, self.record)
        return output_noise(in_units(self.model, self.record), integer, samples)


def alone(
    subject: Subject, names: Sequence[str], samples: Sequence[Sample]
) -> Iterator[tuple[str, float]]:
    """Signal-to-noise in dB of the outputs with one layer of `names` quantized, all others float.

    The layer's inputs, weights and output are rounded; infinite where that changes nothing.
    """
    default = replace(subject.plan.default, mode="float")
    for name in names:
        only = Plan(default, {name: subject.plan.layer(name)})
        yield name, replace(subject, plan=only).noise(samples).ratio_db()


def options_to_try(plan: Plan) -> dict[str, Plan]:
    """The plans that `OPTIONS` make of a plan, without those that change nothing."""
    found = {}
    for option, changes in OPTIONS.items():
        try:
            default = _changed(plan.default, changes)
            layers = {name: _changed(layer, changes) for name, layer in plan.layers.items()}
        except PlanError:  # the option does not go with the plan's others
            continue
        if (changed := Plan(default, layers)) != plan:
            found[option] = changed
    return found


def _changed(layer: LayerPlan, changes: Mapping[str, Any]) -> LayerPlan:
    return layer if layer.mode == "float" else replace(layer, **changes)
