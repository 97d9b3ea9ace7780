"""Give every channel of a tensor that depthwise layers read the same share of its range."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.calibration.equalization import equalized_layers
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant
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
    """What the constant of a call, weights or a bias, is multiplied with for each channel."""
    scaled: dict[Any, Array] = {}
    for marked, readers in equalized_layers(mod):
        factor = record.tensor(marked.name).factor
        if marked.layer is None or not factor.size:
            continue
        for call in marked.layer.calls:
            if is_call(call, "nn.conv2d", "add"):
                scaled[call] = scaled.get(call, 1.0) * factor
        for reader in readers:
            scaled[reader] = scaled.get(reader, 1.0) / factor
    return scaled


def _scaled(value: Any, arg: Any, factor: Array) -> Any:
    """A constant times its channels' factors: the first axis of weights, the last of a bias."""
    if not is_constant(value):
        return arg
    array = constant_value(value).astype(np.float64)
    is_weight = array.ndim == 4 and array.shape[0] == len(factor)
    shape = (-1, 1, 1, 1) if is_weight else (-1,)
    return constant((array * factor.reshape(shape)).astype(np.float32))
