"""What each option of a layer costs: the bytes of a target's kernels, and their time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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
from tvm_probq.planning.options import REFERENCE, Option

BY_LAYER = ("layers", "layers_us")
DIGITS = 6


@dataclass(frozen=True)
class NetworkSizes:
    """Bytes and time of a network, all of whose layers have one option.

    What is of no layer, and what layers have beside, is the same with every option. Of the option
    ``float`` they are what a layer has that alone is float (`float_costs`).

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


def plan_costs(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    target: Any,
    tiles: Tiles | None,
    estimator: Estimator | None,
) -> tuple[int, Peak, NetworkLatency]:
    """Parameter bytes of a network with any plan, its peak of activations, its time."""
    mod = lowered_calls(model, plan, record, target, tiles)
    return (
        parameter_bytes(mod),
        peak_of(mod),
        _latency(model, mod, target, estimator, interval=True),
    )


def option_costs(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    target: Any,
    tiles: Tiles | None,
    estimator: Estimator | None,
    names: Sequence[str],
    option: Option,
) -> NetworkSizes:
    """Bytes and time with an option for all layers of `names` at once.

    Not for ``float``: that is `float_costs`.
    """
    mod = lowered_calls(model, plan.override(names, **option.changes), record, target, tiles)
    found = layer_constants(mod)
    layers = {name: found[name] for name in names if name in found}
    latency = _latency(model, mod, target, estimator)
    us = {name: _digits(latency.layers[name]) for name in names if name in latency.layers}
    sizes = (layers, parameter_bytes(mod), peak_of(mod).total)
    return NetworkSizes(*sizes, us, _digits(latency.total))


def float_costs(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    target: Any,
    tiles: Tiles | None,
    estimator: Estimator | None,
    names: Sequence[str],
) -> NetworkSizes:
    """Bytes and time of layers that are float, each of them alone among layers of the reference.

    To a layer counts all that the network has more: its kernel, and the changes of format around.
    Where nothing was measured the bounds say little of float kernels; those then count as no faster
    than the reference's.
    """
    rest = (record, target, tiles, estimator)
    whole = option_costs(model, plan, *rest, names, Option.parse(REFERENCE))
    layers, us, peaks = {}, {}, [whole.peak]
    for name in names:
        mod = lowered_calls(model, plan.override([name], mode="float"), record, target, tiles)
        layers[name] = whole.layers[name] + parameter_bytes(mod) - whole.parameters
        peaks.append(peak_of(mod).total)
        if estimator is not None:
            more = _latency(model, mod, target, estimator).total - whole.us
            known = estimator.measured or more > 0
            us[name] = _digits(max(0.0, whole.layers_us[name] + (more if known else 0.0)))
    parameters = whole.parameters + sum(layers.values()) - sum(whole.layers.values())
    total = whole.us + sum(us.values()) - sum(whole.layers_us.values())
    return NetworkSizes(layers, parameters, max(peaks), us, _digits(max(0.0, total)))


def _latency(
    model: Model,
    mod: IRModule,
    target: Any,
    estimator: Estimator | None,
    *,
    interval: bool = False,
) -> NetworkLatency:
    if estimator is None:
        return NetworkLatency({}, 0.0)
    marked = marked_tensors(model.mod).items()
    macs = {name: float(m.layer.geometry.macs) for name, m in marked if m.layer is not None}
    return network_latency(mod, target, estimator, macs, interval=interval)


def _digits(us: float) -> float:
    return float(f"{us:.{DIGITS}g}")
