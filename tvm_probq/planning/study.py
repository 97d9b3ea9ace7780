"""How sensitive a network's outputs are to each option of each layer, by simulation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from tvm.ir import IRModule

from tvm_probq.build.compile import in_units, quantized
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.distance import Distance
from tvm_probq.planning.options import Option
from tvm_probq.planning.replay import Replay, as_tuple
from tvm_probq.simulator.interpreter import Simulator

DIGITS = 6
# What outputs that are not finite count as, and all that are worse: the network is ruined.
RUINED = 1e6


@dataclass(frozen=True)
class Sensitivity:
    """What the outputs of a network are like.

    Attributes
    ----------
    noise : float
        Power of their difference from the float network, by the power of the float outputs.
    kl : float or None
        Mean divergence from the float network, in nats; None without class scores.
    agreement : float or None
        Share of samples with the float network's class.
    added_noise, added_kl : float, float or None
        The same of the difference from the reference, whose layers all have w8a8: what an option
        adds. Of options of several layers they add up, as their errors are independent.
    """

    noise: float
    kl: float | None
    agreement: float | None
    added_noise: float
    added_kl: float | None

    def to_json(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)


@dataclass
class Study:
    """A model, its calibration and the samples to measure on.

    Attributes
    ----------
    model : Model
        Of the batch of the samples.
    plan : Plan
        The reference: w8a8 for all layers that are not float.
    record : CalibrationRecord
        Of the model.
    layers : sequence of str
        Those that may be given options.
    samples : sequence of tuple of Array
        Inputs of one call each.
    """

    model: Model
    plan: Plan
    record: CalibrationRecord
    layers: Sequence[str]
    samples: Sequence[tuple[Any, ...]]
    _references: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict, repr=False)

    def round_weights(self) -> None:
        """Round the weights of the reference, which its record then remembers."""
        quantized(self.model, self.plan, self.record)

    def bare(self) -> "Study":
        """The same without what was computed, for another process."""
        return Study(self.model, self.plan, self.record, self.layers, self.samples)

    def reference(self) -> Sensitivity:
        """The reference's own distance from the float network."""
        outputs = self._reference(self.plan)
        return self._compare(outputs, outputs)

    def alone(self, layer: str, option: Option) -> Sensitivity:
        """The distance with `option` for one layer alone."""
        plan = self.plan.override([layer], **option.changes)
        return self._compare(self._outputs(plan), self._reference(self._sampled_for(option)))

    def of_plan(self, plan: Plan) -> Sensitivity:
        """The distance with any plan."""
        return self._compare(self._outputs(plan), self._reference(self.plan))

    def _sampled_for(self, option: Option) -> Plan:
        """The reference with its sums over as many positions as a layer with `option` wants."""
        if option.is_float:
            return self.plan
        changes = {k: v for k, v in option.changes.items() if k != "activation_bits"}
        layers = {name: self.plan.layer(name) for name in self.layers}
        return Plan(replace(self.plan.default, **changes), {**self.plan.layers, **layers})

    def _reference(self, plan: Plan) -> list[tuple[Any, ...]]:
        key = plan.to_toml()
        if key not in self._references:
            self._references[key] = self._replay.remember(self._quantized(plan))
        return self._references[key]

    def _outputs(self, plan: Plan) -> list[tuple[Any, ...]]:
        self._reference(self.plan)
        return self._replay.run(self._quantized(plan))

    def _quantized(self, plan: Plan) -> IRModule:
        return quantized(self.model, plan, self.record)

    def _compare(
        self, found: Sequence[tuple[Any, ...]], reference: Sequence[tuple[Any, ...]]
    ) -> Sensitivity:
        of_float, of_reference = Distance(), Distance()
        for exact, close, outputs in zip(self._exact, reference, found, strict=True):
            of_float.add(exact, outputs)
            of_reference.add(close, outputs)
        return Sensitivity(
            _rounded(of_float.share), _rounded(of_float.kl), of_float.agreement,
            _rounded(of_reference.share), _rounded(of_reference.kl),
        )  # fmt: skip

    @cached_property
    def _exact(self) -> list[tuple[Any, ...]]:
        simulator = Simulator(in_units(self.model, self.record))
        return [as_tuple(simulator(*sample)) for sample in self.samples]

    @cached_property
    def _replay(self) -> Replay:
        return Replay(self.samples)


def _rounded(value: Any) -> Any:
    """To digits that do not depend on the order in which a library adds floats."""
    if value is None:
        return None
    return float(f"{value:.{DIGITS}g}") if value < RUINED else RUINED
