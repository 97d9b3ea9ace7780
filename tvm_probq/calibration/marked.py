"""The markers of an annotated function, each with the layer it closes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import is_call, shape_of
from tvm_probq.ir.layers import Definitions, Layer, find_layers, keeps_parameters

PAIRS = ("add", "matmul")  # kinds predicted from the moments of two stored tensors


@dataclass(frozen=True)
class Marked:
    """One marked tensor.

    Attributes
    ----------
    name, kind, reason : str
        See `AnnotateLayers`.
    call : Call
        The marker.
    layer : Layer or None
        The product behind it, for kinds ``conv2d``, ``dense``, ``output`` and skipped layers.
    pair, activation : Call or None, str
        For sums and matrix products of two stored tensors: the operator and what follows.
    feeds_depthwise : bool
        Whether only depthwise layers read the tensor, so that each channel may have its own range.
    """

    name: str
    kind: str
    reason: str
    call: Call
    layer: Layer | None
    pair: Call | None = None
    activation: str = "none"
    feeds_depthwise: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return shape_of(self.call)

    @property
    def quantized(self) -> bool:
        """Whether the layer itself is computed in integers."""
        return self.kind not in ("float", "input")

    @property
    def is_matmul(self) -> bool:
        """Whether it is a matrix product of two stored tensors."""
        return self.pair is not None and self.kind in ("matmul", "output")


def marked_tensors(mod: IRModule) -> dict[str, Marked]:
    """Every marker of ``main`` by name, in graph order."""
    definitions, kept = Definitions(mod["main"]), keeps_parameters(mod)
    layers = {layer.calls[-1]: layer for layer in find_layers(definitions)}
    depthwise_products = {m.product for m in layers.values() if m.geometry.depthwise}
    found: dict[str, Marked] = {}
    for call in definitions.order:
        if is_call(call, "probq.layer"):
            stored = definitions.value(call.args[0])
            if kept and is_call(stored, "probq.quantize"):  # the marker is on codes
                stored = definitions.value(stored.args[0])
            layer = layers.get(stored)
            name, kind, reason = (str(call.attrs[key]) for key in ("name", "kind", "reason"))
            pair, activation = None, "none"
            if layer is None and kind in (*PAIRS, "output"):
                operator = "add" if kind == "add" else "matmul"
                pair, activation = operator_behind(definitions.value, call.args[0], operator) or (
                    None,
                    "none",
                )
            users = definitions.users.get(definitions.var_of[call], [])
            depthwise = bool(users) and all(u in depthwise_products for u in users)
            found[name] = Marked(name, kind, reason, call, layer, pair, activation, depthwise)
    return found


def layer_calls(marked: dict[str, Marked]) -> dict[Any, str]:
    """Names of the marked layers by their product call."""
    return {m.layer.product: name for name, m in marked.items() if m.layer is not None}


def residual_adds(marked: dict[str, Marked]) -> dict[Any, str]:
    """Names of the marked layers by their addition of a residual."""
    layers = {name: m.layer for name, m in marked.items() if m.layer is not None}
    return {
        layer.residual_add: name for name, layer in layers.items() if layer.residual_add is not None
    }


def operator_behind(value: Callable[[Any], Any], y: Any, operator: str) -> tuple[Call, str] | None:
    """The `operator` on two tensors that makes `y`, such as ``"add"``, and the activation between.

    `value` looks a variable up.
    """
    call, activation = value(y), "none"
    if is_call(call, "probq.quantize"):
        call = value(call.args[0])
    if is_call(call, "probq.activation"):
        activation, call = str(call.attrs["kind"]), value(call.args[0])
    return (call, activation) if is_call(call, operator) else None
