"""Give every channel of a tensor that depthwise layers read the same share of its range."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.calibration.equalization import equalized_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant
from tvm_probq.ir.layers import Layer
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.arithmetic import Array

DONE = "probq_equalized"


@tvm.transform.module_pass(opt_level=0, name="probq.EqualizeChannels")
class EqualizeChannels:
    """Scale the channels of tensors that only depthwise layers read, and undo it in those layers.

    Before::

        lv = R.add(R.nn.conv2d(x, w), bias)
        lv1 = R.probq.activation(lv, kind="clip(0.0,6.0)")
        y = R.nn.conv2d(R.probq.layer(lv1, name="conv1", kind="conv2d"), w_depthwise)

    After::

        lv = R.add(R.nn.conv2d(x, w * factor), bias * factor)
        lv1 = R.probq.activation(lv, kind="clip(0.0,6.0)")
        y = R.nn.conv2d(R.probq.layer(lv1, name="conv1", kind="conv2d"), w_depthwise / factor)

    An elementwise product that only layers read is scaled by its constant, or by the layer that
    makes one of its operands (`equalized_tensors`).

    Weights have a scale for each output channel, so neither layer rounds worse.  Factors are 1 and
    more: an upper clip then binds at ``6 / factor``, which is above what the first
    calibration samples reached.

    Parameters
    ----------
    record : CalibrationRecord
        Of the same model; it holds the factors.

    Holds before: `AnnotateLayers`.  Holds after: tensors are in the units of the record.
    """

    def __init__(self, record: CalibrationRecord) -> None:
        self.record = record

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        attrs = mod["main"].attrs
        if attrs is not None and DONE in attrs:
            return mod
        scaled = _scaled_constants(mod, self.record)
        if not scaled:
            return mod

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            factor = scaled.get(old)
            if factor is None:
                return None
            args = [_scaled(rewriter.value(a), a, factor) for a in new.args]
            return Call(new.op, args, new.attrs)

        after = rewrite(mod, visit)
        after["main"] = after["main"].with_attr(DONE, 1)
        return after


def _scaled_constants(mod: IRModule, record: CalibrationRecord) -> dict[Any, Array]:
    """What the constant that a call reads is multiplied with, in its shape or one like it."""
    scaled: dict[Any, Array] = {}
    for name, equalized in equalized_tensors(mod).items():
        factor = record.tensor(name).factor
        if not factor.size:
            continue
        for call in _calls_of(equalized.made_by):
            _multiply(scaled, call, factor, outputs=True)
        for reader in equalized.readers.values():
            _multiply(scaled, reader.product, 1.0 / factor, outputs=reader.geometry.depthwise)
    return scaled


def _calls_of(made_by: Layer | Call) -> list[Call]:
    if isinstance(made_by, Call):
        return [made_by]
    return [call for call in made_by.calls if is_call(call, "nn.conv2d", "matmul", "add")]


def _multiply(scaled: dict[Any, Array], call: Call, factor: Array, *, outputs: bool) -> None:
    """Remember a factor of the channels that a call gives, or else of those it reads."""
    if is_call(call, "nn.conv2d"):
        factor = factor.reshape((-1, 1, 1, 1) if outputs else (1, 1, 1, -1))
    elif is_call(call, "matmul") and not outputs:
        factor = factor.reshape(-1, 1)
    scaled[call] = scaled.get(call, 1.0) * factor


def _scaled(value: Any, arg: Any, factor: Array) -> Any:
    """A constant times its factors; anything else as it is."""
    if not is_constant(value):
        return arg
    return constant((constant_value(value).astype(np.float64) * factor).astype(np.float32))
