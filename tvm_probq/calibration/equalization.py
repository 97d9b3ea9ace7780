"""Which tensors are equalized over their channels, and by how much."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.calibration.marked import Marked, marked_tensors
from tvm_probq.ir.expressions import constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.layers import Definitions, Layer
from tvm_probq.simulator.arithmetic import Array

# A channel that calibration hardly woke keeps room for 16 times less than the widest one.
LARGEST_FACTOR = 16.0
# Of a channel below a clip, over the largest value seen.  Measured on MobileNet v1, in dB of the
# logits: 24.6 with 1 and with 1.05, 13.7 with 0.9, which clips what was seen.
HEADROOM = 1.05
# Exponent of the factors where layers sum over the channels, so that inputs which get larger share
# one scale of weights with the others.  Measured on a language model, in dB of the logits: 28.8
# without factors, 29.7 with 0.5, 29.9 with 0.75, 29.7 with 1.
SUMMED_EXPONENT = 0.75


@dataclass(frozen=True)
class Equalized:
    """A tensor whose channels get factors.

    Attributes
    ----------
    made_by : Layer or Call
        What takes the factors in: a layer, by its weights and bias, or a product with a constant,
        by that.
    readers : dict
        All layers that read the tensor, by name; their weights are divided by the factors.
    """

    made_by: Layer | Call
    readers: dict[str, Layer]

    def factors(self, peaks: Array) -> Array:
        """Factors ``[C]`` of channels with the largest magnitudes `peaks` ``[C]``."""
        depthwise = all(reader.geometry.depthwise for reader in self.readers.values())
        return factors(peaks) ** (1.0 if depthwise else SUMMED_EXPONENT)


def equalized_tensors(mod: IRModule) -> dict[str, Equalized]:
    """Tensors whose channels get factors, by name.

    Those that only depthwise layers read, where what follows the product lets a positive factor of
    a channel through: nothing, or a clip.  And elementwise products that only layers read, if one
    operand is a constant, as behind a normalization, or a layer's output, as in gated units.
    """
    definitions, marked = Definitions(mod["main"]), marked_tensors(mod)
    layers = {m.layer.product: name for name, m in marked.items() if m.layer is not None}
    found = {}
    for name, tensor in marked.items():
        products = _readers(definitions, layers, tensor.call)
        if not products:
            continue
        readers = {layers[p]: marked[layers[p]].layer for p in products}
        made_by: Layer | Call | None = None
        if tensor.feeds_depthwise:
            made_by = _linear(tensor)
        elif all(r is not None and r.geometry.groups == 1 for r in readers.values()):
            made_by = _factor_of_product(definitions, marked, tensor)
        if made_by is not None:
            found[name] = Equalized(made_by, {n: r for n, r in readers.items() if r is not None})
    return found


def _readers(definitions: Definitions, layers: dict[Any, str], call: Call) -> list[Call]:
    """The products that read a tensor, also by another shape; none if anything else does."""
    var = definitions.var_of[call]
    if var in definitions.outputs:
        return []
    products = []
    for user in definitions.users.get(var, []):
        if user in layers:
            products.append(user)
        elif _keeps_channels(user) and (behind := _readers(definitions, layers, user)):
            products += behind
        else:
            return []
    return products


def _linear(tensor: Marked) -> Layer | None:
    layer = tensor.layer
    if layer is None or layer.residual is not None or tensor.kind != "conv2d":
        return None
    activation = ops.parse_activation(layer.activation)
    return layer if activation.linear and activation.low in (0.0, -np.inf) else None


def _factor_of_product(
    definitions: Definitions, marked: dict[str, Marked], tensor: Marked
) -> Layer | Call | None:
    """What the channels of an elementwise product can be scaled by."""
    product = definitions.value(tensor.call.args[0])
    if tensor.layer is not None or not is_call(product, "multiply"):
        return None
    channels = shape_of(product)[-1]
    for operand in product.args:
        value = definitions.value(operand)
        if is_constant(value):
            return product if constant_value(value).shape[-1:] == (channels,) else None
    for operand in product.args:
        for call in _only_origins(definitions, operand):
            if is_call(call, "probq.layer"):
                layer = marked[str(call.attrs["name"])].layer
                plain = layer is not None and layer.activation == "none" and layer.residual is None
                if plain and marked[str(call.attrs["name"])].kind == "output":
                    return layer
    return None


def _only_origins(definitions: Definitions, var: Any) -> Iterator[Any]:
    """The call that made a tensor which nothing else reads, behind changes of its shape."""
    call = definitions.value(var)
    while isinstance(call, Call) and definitions.only_user(call) is not None:
        yield call
        if not _keeps_channels(call):
            return
        call = definitions.value(call.args[0])


def _keeps_channels(call: Any) -> bool:
    if not is_call(call, "reshape") or isinstance(call, relax.Var):
        return False
    return shape_of(call)[-1] == shape_of(call.args[0])[-1]


def factors(peaks: Array) -> Array:
    """Factors ``[C]`` that give channels of magnitudes up to `peaks` ``[C]`` the same range."""
    top = peaks.max()
    wanted = np.divide(top, HEADROOM * peaks, out=np.ones_like(peaks), where=peaks > 0)
    limited: Array = np.clip(wanted, 1.0, LARGEST_FACTOR)
    return limited
