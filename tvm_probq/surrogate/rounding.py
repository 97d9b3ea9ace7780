"""The rounded weights of a layer, as its plan asks."""

import hashlib

from tvm_probq.calibration.record import TensorRecord
from tvm_probq.plan.plan import LayerPlan
from tvm_probq.quantization.feedback import InputSpread, feedback_weights
from tvm_probq.quantization.weights import RoundedWeights, round_weights
from tvm_probq.simulator.arithmetic import Array


def round_layer(weights: Array, tensor: TensorRecord, plan: LayerPlan) -> RoundedWeights:
    """Round the weights of a layer, OHWI float32; the record remembers the result."""
    content = hashlib.sha256(weights.tobytes()).digest()
    fields = (plan.weight_bits, plan.weight_group, plan.rounding, plan.weight_clip)
    key = (content, weights.shape, *fields)
    if key not in tensor.rounded:
        tensor.rounded[key] = _round(weights, tensor, plan)
    return tensor.rounded[key]


def _round(weights: Array, tensor: TensorRecord, plan: LayerPlan) -> RoundedWeights:
    bits, clip, group = plan.weight_bits, plan.weight_clip, plan.weight_group
    if plan.rounding == "nearest":
        return round_weights(weights, bits, clip, group)
    spread = tensor.spread or InputSpread.unknown(weights.shape[3])
    return feedback_weights(weights, bits, spread, clip, group)
