"""Which tensors are equalized over their channels, and by how much."""

import numpy as np
from tvm.ir import IRModule

from tvm_probq import ops
from tvm_probq.calibration.marked import Marked, marked_tensors
from tvm_probq.ir.layers import Definitions
from tvm_probq.simulator.arithmetic import Array

# A channel that calibration hardly woke keeps room for 16 times less than the widest one.
LARGEST_FACTOR = 16.0
# Of a channel below a clip, over the largest value seen.  Measured on MobileNet v1, in dB of the
# logits: 24.6 with 1 and with 1.05, 13.7 with 0.9, which clips what was seen.
HEADROOM = 1.05


def equalized_layers(mod: IRModule) -> list[tuple[Marked, list[object]]]:
    """Layers whose output only depthwise layers read, each with these readers' products.

    What follows the product must let a positive factor of a channel through: nothing, or a clip.
    """
    definitions = Definitions(mod["main"])
    return [
        (marked, definitions.users[definitions.var_of[marked.call]])
        for marked in marked_tensors(mod).values()
        if is_equalized(marked)
    ]


def is_equalized(marked: Marked) -> bool:
    """Whether the channels of a tensor may get factors."""
    layer = marked.layer
    if layer is None or layer.residual is not None or not marked.feeds_depthwise:
        return False
    activation = ops.parse_activation(layer.activation)
    return marked.kind == "conv2d" and activation.linear and activation.low in (0.0, -np.inf)


def factors(peaks: Array) -> Array:
    """Factors ``[C]`` of channels with the largest magnitudes `peaks` ``[C]``."""
    top = peaks.max()
    wanted = np.divide(top, HEADROOM * peaks, out=np.ones_like(peaks), where=peaks > 0)
    limited: Array = np.clip(wanted, 1.0, LARGEST_FACTOR)
    return limited
