"""What each option of a layer costs: the bytes of a target's kernels, and their time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import tvm
from tvm.ir import IRModule

from tvm_probq.build.layer_reports import layer_constants
from tvm_probq.build.memory import Peak, parameter_bytes, peak_of
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.latency.estimator import Estimator
from tvm_probq.latency.network import NetworkLatency, network_latency
from tvm_probq.latency.ticked import lowered_calls
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.options import FLOAT, REFERENCE, Option

BY_LAYER = ("layers", "layers_us")
DIGITS = 6


@dataclass(frozen=True)
class NetworkSizes:
    """Bytes and time of a network, all of whose layers have one option.

    What is of no layer, and what layers have beside, is the same with every option. Of the option
    ``float`` they are what a layer has that alone is float (`Pricing`).

    Attributes
    ----------
    layers : dict
        Parameter bytes by layer.
    parameters : int
        Of the whole network.
    peak : int
        Largest sum of activations that are alive together.
    layers_us : dict
        Estimated microseconds by layer; empty where nothing is known of the target.
    us : float
        Of the whole network.
    """

    layers: dict[str, int]
    parameters: int
    peak: int
    layers_us: dict[str, float] = field(default_factory=dict)
    us: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, layers in the order of their names."""
        by_layer = {name: dict(sorted(getattr(self, name).items())) for name in BY_LAYER}
        return {**asdict(self), **by_layer}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "NetworkSizes":
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, TypeError, AttributeError
            For anything else.
        """
        found = cls(**data)
        for value in (*found.layers.values(), found.parameters, found.peak):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{value!r} is no number of bytes")
        for us in (*found.layers_us.values(), found.us):
            if isinstance(us, bool) or not isinstance(us, int | float) or not us >= 0:
                raise ValueError(f"{us!r} is no time")
        return found


@dataclass(frozen=True)
class Pricing:
    """What networks of a model cost on a target.

    Attributes
    ----------
    model : Model
        Of batch 1.
    record : CalibrationRecord
        Of the model.
    target : tvm.target.Target
        Whose kernels decide the bytes.
    tiles : Tiles or None
        Loop sizes of these kernels.
    estimator : Estimator or None
        Knows how long they take, where anything is known.
    """

    model: Model
    record: CalibrationRecord
    target: tvm.target.Target
    tiles: Tiles | None = None
    estimator: Estimator | None = None

    def of_plan(self, plan: Plan) -> tuple[int, Peak, NetworkLatency]:
        """Parameter bytes with any plan, the peak of activations, the estimated time."""
        mod = self._lowered(plan)
        return parameter_bytes(mod), peak_of(mod), self._latency(mod, interval=True)

    def of_option(self, plan: Plan, names: Sequence[str], option: Option) -> NetworkSizes:
        """Bytes and time with an option for all layers of `names`, beside `plan` for others."""
        if option.is_float:
            return self._of_float(plan, names)
        mod = self._lowered(plan.override(names, **option.changes))
        found = layer_constants(mod)
        layers = {name: found[name] for name in names if name in found}
        latency = self._latency(mod)
        us = {name: _digits(latency.layers[name]) for name in names if name in latency.layers}
        sizes = (layers, parameter_bytes(mod), peak_of(mod).total)
        return NetworkSizes(*sizes, us, _digits(latency.total))

    def _of_float(self, plan: Plan, names: Sequence[str]) -> NetworkSizes:
        """The same of layers that are float, each of them alone among layers of the reference.

        To a layer counts all that the network has more: its kernel, and the changes of format
        around. Where nothing was measured the bounds say little of float kernels; those then count
        as no faster than the reference's.
        """
        whole = self.of_option(plan, names, Option.parse(REFERENCE))
        layers, us, peaks = {}, {}, [whole.peak]
        for name in names:
            mod = self._lowered(plan.override([name], mode=FLOAT))
            layers[name] = whole.layers[name] + parameter_bytes(mod) - whole.parameters
            peaks.append(peak_of(mod).total)
            if self.estimator is not None:
                more = self._latency(mod).total - whole.us
                known = self.estimator.measured or more > 0
                us[name] = _digits(max(0.0, whole.layers_us[name] + (more if known else 0.0)))
        parameters = whole.parameters + sum(layers.values()) - sum(whole.layers.values())
        total = whole.us + sum(us.values()) - sum(whole.layers_us.values())
        return NetworkSizes(layers, parameters, max(peaks), us, _digits(max(0.0, total)))

    def _lowered(self, plan: Plan) -> IRModule:
        return lowered_calls(self.model, plan, self.record, self.target, self.tiles)

    def _latency(self, mod: IRModule, *, interval: bool = False) -> NetworkLatency:
        if self.estimator is None:
            return NetworkLatency({}, 0.0)
        marked = marked_tensors(self.model.mod).items()
        macs = {name: float(m.layer.geometry.macs) for name, m in marked if m.layer is not None}
        return network_latency(mod, self.target, self.estimator, macs, interval=interval)


def _digits(us: float) -> float:
    return float(f"{us:.{DIGITS}g}")
