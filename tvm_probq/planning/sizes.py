"""What each option of a layer costs in bytes: those that the kernels of a target store."""

from collections.abc import Iterable, Sequence
from typing import Any

import tvm
from tvm.ir import IRModule

from tvm_probq.build.compile import quantized
from tvm_probq.build.layer_reports import layer_constants
from tvm_probq.build.memory import parameter_bytes, peak_activation_bytes
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.passes.pipeline import kernel_passes
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.options import Option


def lowered(model: Model, plan: Plan, record: CalibrationRecord, target: Any) -> IRModule:
    """The calls of kernels that `compile_model` builds."""
    integer = quantized(model, plan, record)
    return tvm.transform.Sequential(kernel_passes(target))(integer)


def network_bytes(
    model: Model, plan: Plan, record: CalibrationRecord, target: Any
) -> tuple[int, int]:
    """Parameter bytes of a network, and its peak of activation bytes."""
    mod = lowered(model, plan, record, target)
    return parameter_bytes(mod), peak_activation_bytes(mod)


def layer_bytes(
    model: Model,
    plan: Plan,
    record: CalibrationRecord,
    target: Any,
    names: Sequence[str],
    options: Iterable[Option],
) -> dict[str, dict[str, int]]:
    """Parameter bytes of each layer of `names` by option; all have the same option at once.

    What is of no layer, and what layers have beside, is the same with every option.
    """  # fmt: skip
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for option in options:
        mod = lowered(model, plan.override(names, **option.changes), record, target)
        for name, size in layer_constants(mod).items():
            if name in found:
                found[name][option.name] = size
    return found
