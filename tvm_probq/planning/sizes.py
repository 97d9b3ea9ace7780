"""What each option of a layer costs in bytes: those that the kernels of a target store."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tvm
from tvm.ir import IRModule

from tvm_probq.build.compile import quantized
from tvm_probq.build.layer_reports import layer_constants
from tvm_probq.build.memory import Peak, parameter_bytes, peak_of
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.passes.pipeline import kernel_passes
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.options import Option


@dataclass(frozen=True)
class NetworkSizes:
    """Bytes of a network, all of whose layers have one option.

    What is of no layer, and what layers have beside, is the same with every option.

    Attributes
    ----------
    layers : dict
        Parameter bytes by layer.
    parameters : int
        Of the whole network.
    peak : int
        Largest sum of activations that are alive together.
    """

    layers: dict[str, int]
    parameters: int
    peak: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, layers in the order of their names."""
        return {**asdict(self), "layers": dict(sorted(self.layers.items()))}

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
        return found


def lowered(model: Model, plan: Plan, record: CalibrationRecord, target: Any) -> IRModule:
    """The calls of kernels that `compile_model` builds."""
    integer = quantized(model, plan, record)
    return tvm.transform.Sequential(kernel_passes(target))(integer)


def plan_bytes(
    model: Model, plan: Plan, record: CalibrationRecord, target: Any
) -> tuple[int, Peak]:
    """Parameter bytes of a network with any plan, and its peak of activations."""
    mod = lowered(model, plan, record, target)
    return parameter_bytes(mod), peak_of(mod)


def option_bytes(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    target: Any,
    names: Sequence[str],
    option: Option,
) -> NetworkSizes:
    """Bytes with an option for all layers of `names` at once."""
    mod = lowered(model, plan.override(names, **option.changes), record, target)
    found = layer_constants(mod)
    layers = {name: found[name] for name in names if name in found}
    return NetworkSizes(layers, parameter_bytes(mod), peak_of(mod).total)


def by_layer(
    names: Sequence[str], networks: Mapping[str, NetworkSizes]
) -> dict[str, dict[str, int]]:
    """Bytes of each layer by option, from those of networks by option."""
    return {
        name: {option: sizes.layers[name] for option, sizes in networks.items()} for name in names
    }
