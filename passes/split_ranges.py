"""Let channels that are always zero carry half the range of others."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant
from tvm_probq.ir.layers import Definitions, Layer, find_layers
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.simulator.arithmetic import Array

# A channel counts as zero if it is for all inputs of its layer up to this magnitude.
LARGEST_INPUT = 1000.0


@tvm.transform.module_pass(opt_level=0, name="probq.SplitRanges")
class SplitRanges:
    """Split channels of a depthwise layer in two that use the whole range for half of theirs.

    Before, where channel d of ``lv`` is zero for every input::

        lv = R.probq.activation(R.add(R.nn.conv2d(x, w), bias), kind="clip(0.0,6.0)")
        lv1 = R.probq.activation(R.add(R.nn.conv2d(lv, w1), bias1), kind="clip(0.0,6.0)")
        y = R.add(R.nn.conv2d(lv1, w2), bias2)

    After, the same, with other constants: channel d of ``lv`` repeats a channel c, and in ``lv1``

        lv1[c] = clip(2 * v, 0, 6)        # where v is what channel c was before its clip
        lv1[d] = clip(2 * v - 6, 0, 6)

    whose mean is ``clip(v, 0, 6)``, so that ``w2`` of both is half of what it was for c.  Between
    two codes of either lies half the real step.  Networks trained with weight decay and ReLU6 have
    such channels: 10 of the 24 in MobileNet v1's first layer.

    Holds before: canonical form, channels last.  Holds after: the same.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        changed = _changed_constants(Definitions(mod["main"]))
        if not changed:
            return mod

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if old not in changed:
                return None
            value = constant(changed[old].astype(np.float32))
            args = [value if is_constant(rewriter.value(a)) else a for a in new.args]
            return Call(new.op, args, new.attrs)

        return rewrite(mod, visit)


def _changed_constants(definitions: Definitions) -> dict[Any, Array]:
    """New weights and biases, by the call that reads them."""
    layers = find_layers(definitions)
    by_product = {layer.product: layer for layer in layers}
    changed: dict[Any, Array] = {}
    for producer in layers:
        depthwise = _only_reader(definitions, producer, by_product)
        reader = None
        if depthwise is not None and depthwise.geometry.depthwise:
            reader = _only_reader(definitions, depthwise, by_product)
        if depthwise is None or reader is None or not _sums_channels(reader):
            continue
        chain = (producer, depthwise, reader)
        if any(call in changed for layer in chain for call in layer.calls):
            continue  # this layer's weights are half of others now
        pairs = _pairs(definitions, *chain)
        if pairs:
            changed |= _split(definitions, *chain, pairs)
    return changed


def _only_reader(
    definitions: Definitions, layer: Layer, by_product: dict[Any, Layer]
) -> Layer | None:
    user = definitions.only_user(layer.calls[-1])
    return None if layer.residual is not None else by_product.get(user)


def _sums_channels(layer: Layer) -> bool:
    """Whether a layer is a convolution of single positions with a bias, over all channels."""
    g = layer.geometry
    return (
        g.groups == 1
        and g.kernel == (1, 1)
        and not any(g.pads)
        and is_call(layer.product, "nn.conv2d")
    )


def _pairs(
    definitions: Definitions, producer: Layer, depthwise: Layer, reader: Layer
) -> list[tuple[int, int]]:
    """Channels that are zero, each with one to share the range of: those that matter most."""
    if any(_bias(definitions, layer) is None for layer in (producer, depthwise, reader)):
        return []
    first, second = (ops.parse_activation(layer.activation) for layer in (producer, depthwise))
    if not (first.linear and second.linear and first.low == second.low == 0):
        return []
    if not np.isfinite(second.high) or len(depthwise.weights) != len(producer.weights):
        return []
    reach = LARGEST_INPUT * np.abs(producer.weights).sum((1, 2, 3)) + producer.bias
    zero = np.flatnonzero(reach <= 0)
    weight = np.square(reader.weights).sum((0, 1, 2))
    weight[zero] = -1.0
    most = np.argsort(-weight, kind="stable")[: len(weight) - len(zero)]
    return [(int(d), int(c)) for d, c in zip(zero, most, strict=False)]


def _split(
    definitions: Definitions, producer: Layer, depthwise: Layer, reader: Layer,
    pairs: list[tuple[int, int]],
) -> dict[Any, Array]:  # fmt: skip
    high = ops.parse_activation(depthwise.activation).high
    weights = [layer.weights.astype(np.float64) for layer in (producer, depthwise, reader)]
    biases = [layer.bias.astype(np.float64) for layer in (producer, depthwise, reader)]
    for zero, channel in pairs:
        weights[0][zero], biases[0][zero] = weights[0][channel], biases[0][channel]
        # What the channel gave without any input goes to the reader's bias.
        biases[2] += weights[2][:, 0, 0, zero] * np.clip(biases[1][zero], 0.0, high)
        weights[1][channel] *= 2
        biases[1][channel] *= 2
        weights[1][zero], biases[1][zero] = weights[1][channel], biases[1][channel] - high
        weights[2][..., channel] /= 2
        weights[2][..., zero] = weights[2][..., channel]
    changed = {}
    for layer, w, b in zip((producer, depthwise, reader), weights, biases, strict=True):
        call, shape = _bias(definitions, layer) or (None, ())
        changed[layer.product], changed[call] = w, b.reshape(shape)
    return changed


def _bias(definitions: Definitions, layer: Layer) -> tuple[Call, tuple[int, ...]] | None:
    """The only addition of a constant in a layer, and the constant's shape."""
    found = []
    for call in layer.calls:
        if is_call(call, "add"):
            values = [definitions.value(a) for a in call.args]
            found += [(call, constant_value(v).shape) for v in values if is_constant(v)]
    return found[0] if len(found) == 1 else None
