"""Round the weights of every quantized layer."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import constant, is_call, is_constant
from tvm_probq.ir.layers import (
    Definitions,
    Geometry,
    is_product,
    marker_behind,
    product_geometry,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.plan.plan import LayerPlan, Plan
from tvm_probq.simulator.arithmetic import Array
from tvm_probq.surrogate.constants import f32
from tvm_probq.surrogate.correction import predicted_correction, static_correction
from tvm_probq.surrogate.directions import correction_directions
from tvm_probq.surrogate.rounding import round_layer


@tvm.transform.module_pass(opt_level=0, name="probq.QuantizeWeights")
class QuantizeWeights:
    """Replace float weights by codes and a scale for each output channel.

    Before::

        lv = R.nn.conv2d(x, w)

    After::

        w_real = R.probq.dequantize_weight(w_codes, w_scale, axis=0, bits=8)
        lv = R.nn.conv2d(x, w_real)

    With the static correction, the mean shift that rounding causes on the calibration data is added
    behind the product.

    Parameters
    ----------
    plan : Plan
        Bits and correction of each layer.
    record : CalibrationRecord
        For the static correction.

    Holds before: `AnnotateLayers`.  Holds after: products of quantized layers read codes.
    """

    def __init__(self, plan: Plan, record: CalibrationRecord) -> None:
        self.plan = plan
        self.record = record

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        definitions = Definitions(mod["main"])

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if not is_product(definitions, old) or not is_constant(rewriter.value(new.args[1])):
                return None  # no product, or of codes already
            marker = marker_behind(definitions, old)
            if marker is None:
                return None
            name = str(marker.attrs["name"])
            if not is_quantized(str(marker.attrs["kind"]), self.plan.layer(name)):
                return None
            return self._round(rewriter, name, *product_geometry(definitions, old), new)

        return rewrite(mod, visit)

    def _round(
        self, rewriter: Rewriter, name: str, geometry: Geometry, weights: Array, new: Call
    ) -> relax.Expr:
        plan = self.plan.layer(name)
        rounded = round_layer(weights, self.record.tensor(name), plan)
        dense = is_call(new, "matmul")
        codes = rounded.codes[:, 0, 0, :].T if dense else rounded.codes
        call = ops.dequantize_weight(
            constant(codes), constant(rounded.scale), axis=int(dense), bits=plan.weight_bits
        )
        y = Call(new.op, [new.args[0], rewriter.emit(call, name="weights")], new.attrs)
        if plan.rounding_correction == "none":
            return y
        shift = self._constant_shift(name, plan, geometry, weights, rounded.real())
        return relax.op.add(rewriter.emit(y), constant(shift)) if shift.any() else y

    def _constant_shift(
        self, name: str, plan: LayerPlan, geometry: Geometry, weights: Array, real: Array
    ) -> Array:
        """The mean shift of rounding on calibration data; less what is predicted at run time."""
        tensor = self.record.tensor(name)
        samples = max(self.record.samples, 1)
        shift = static_correction(weights, real, geometry, tensor.tap_means / samples)
        if plan.rounding_correction == "predicted":
            directions = correction_directions(tensor.basis, fine=plan.corrects_finely)
            predicted = predicted_correction(weights, real, geometry, directions)
            if predicted is not None:
                shift = shift - predicted.shift(tensor.mean / samples)
        return f32(shift)


def is_quantized(kind: str, plan: LayerPlan) -> bool:
    """Whether the layer of a marker of `kind` is computed in integers."""
    return kind in ("conv2d", "dense", "output") and plan.mode != "float"
