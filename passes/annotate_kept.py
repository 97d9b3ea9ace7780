"""Name what a file's own parameters apply to, in a model that is quantized already."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, describe, is_call, is_constant
from tvm_probq.ir.layers import (
    KEPT,
    Definitions,
    Layer,
    find_layers,
    is_global_pool,
    is_pair_product,
    keeps_parameters,
    moves_codes,
    operands,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.ir.weights import is_coded, weights_value
from tvm_probq.passes.annotate_layers import PAIR_NAMES, Mark, default_name, layer_names, unique

NO_PARAMETERS = "the file has no parameters for its"


@tvm.transform.module_pass(opt_level=0, name="probq.AnnotateKept")
class AnnotateKept:
    """Put a ``R.probq.layer`` marker behind every tensor that the file stores quantized.

    Before::

        lv = R.probq.dequantize(R.probq.quantize(x, qp), qp)
        lv1 = R.add(R.nn.conv2d(lv, R.probq.dequantize_weight(w, t)), bias)
        q = R.probq.quantize(lv1, qp1)

    After::

        x_q = R.probq.layer(R.probq.quantize(x, qp), name="input", kind="input")
        lv = R.probq.dequantize(x_q, qp)
        lv1 = R.add(R.nn.conv2d(lv, R.probq.dequantize_weight(w, t)), bias)
        q = R.probq.layer(R.probq.quantize(lv1, qp1), name="conv1", kind="conv2d")

    Kinds are those of `AnnotateLayers`, and ``rescale`` for codes that are only moved and then
    quantized again; under the same parameters they are left as they are.  A layer without
    parameters for what it reads or for its weights stays float and says so.

    Holds before: `KeepParameters`, canonical form, channels last.  Holds after: the function has
    the attribute ``probq_kept``, and `AnnotateLayers` leaves it alone; weights are float32 where
    the layer is.  A module without quantized tensors changes in its weights alone.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        definitions = Definitions(mod["main"])
        if keeps_parameters(mod) or any(is_call(c, "probq.layer") for c in definitions.order):
            return mod
        marks = _Marks(definitions)

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if old in marks.unchanged:
                return rewriter.value(new.args[0]).args[0]
            call = _float_weights(rewriter, new) if old in marks.float_products else new
            mark = marks.of_calls.get(old)
            if mark is None:
                return call
            return ops.layer(rewriter.emit(call), name=mark[0], kind=mark[1], reason=mark[2])

        mod = rewrite(mod, visit)
        if marks.of_calls:
            mod["main"] = mod["main"].with_attr(KEPT, 1)
        return mod


def _float_weights(rewriter: Rewriter, product: Call) -> Call:
    x, weights = product.args
    value = rewriter.value(weights)
    real = constant(weights_value(value)) if is_coded(value) else weights
    return Call(product.op, [x, real], product.attrs, product.ty_args)


class _Marks:
    """Which calls get a marker, decided on the old function.

    Attributes
    ----------
    of_calls : dict
        Marks of ``probq.quantize``, and of the last calls of layers that end in float.
    unchanged : set
        ``probq.dequantize`` of codes that were moved, and then quantized under the parameters that
        they had.
    float_products : set
        Products that are computed in float.
    """

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.of_calls: dict[Any, Mark] = {}
        self.names: set[str] = set()
        self.unchanged: set[Any] = set()
        self.float_products: set[Any] = set()
        stored = [c for c in definitions.order if is_call(c, "probq.quantize")]
        self.layers = find_layers(definitions)
        self.layer_at = {layer.calls[-1]: layer for layer in self.layers}
        self.name_of = self._given_names()
        if not stored:
            self.float_products = {layer.product for layer in self.layers}
            return
        for quantize in stored:
            self._mark(quantize)
        ends = {definitions.value(quantize.args[0]) for quantize in stored}
        for layer in self.layers:
            self._mark_end(layer, layer.calls[-1] in ends)

    def _given_names(self) -> dict[Any, str]:
        """Names from the front end, by the last call of a layer and by products of two tensors."""
        func, products = self.definitions.func, [
            c for c in self.definitions.order if is_pair_product(self.definitions, c)
        ]  # fmt: skip
        names = layer_names(func, len(self.layers))
        pair_names = layer_names(func, len(products), PAIR_NAMES)
        given = {p: name or "matmul" for p, name in zip(products, pair_names, strict=True)}
        for index, (layer, name) in enumerate(zip(self.layers, names, strict=True)):
            given[layer.calls[-1]] = name or default_name(layer, index)
        return given

    def _mark(self, quantize: Call) -> None:
        source = self._source(quantize.args[0])
        if source is not None and _same(source.args[1], quantize.args[1]):
            self.unchanged.update(self.definitions.users[self.definitions.var_of[quantize]])
            return
        call = self.definitions.value(quantize.args[0])
        if isinstance(call, relax.Var):
            name, kind, reason = call.name, "input", ""
        elif source is not None:
            name, kind, reason = "rescale", "rescale", ""
        elif (layer := self.layer_at.get(call)) is not None:
            name, kind, reason = self.name_of[call], *self._layer_kind(layer)
        else:
            kind = self._kind(call)
            reason = "" if kind != "float" else f"{describe(call)} has no integer form"
            other = describe(call).replace(".", "_") if kind == "float" else kind
            name = self.name_of.get(call, other)
        self.of_calls[quantize] = (unique(self.names, name), kind, reason)

    def _source(self, var: Any) -> Call | None:
        """The ``probq.dequantize`` that `var` comes from through operators that move values."""
        call = self.definitions.value(var)
        while moves_codes(call):
            call = self.definitions.value(call.args[0])
        return call if is_call(call, "probq.dequantize") else None

    def _layer_kind(self, layer: Layer) -> tuple[str, str]:
        if self._source(layer.x) is None:
            return "float", f"{NO_PARAMETERS} input"
        if not is_coded(self.definitions.value(layer.product.args[1])):
            return "float", f"{NO_PARAMETERS} weights"
        return ("dense" if is_call(layer.product, "matmul") else "conv2d"), ""

    def _kind(self, call: Any) -> str:
        """The kind of an operator on codes, ``float`` for any other."""
        if is_global_pool(call) and self._source(call.args[0]) is not None:
            return "pool"
        if is_pair_product(self.definitions, call) and self._all_stored(call.args):
            return "matmul"
        if is_call(call, "concat"):
            fields = self.definitions.value(call.args[0]).fields
            return "concat" if self._all_stored(fields) else "float"
        if is_call(call, "probq.activation"):
            if not ops.parse_activation(str(call.attrs["kind"])).linear:
                return "float"
            call = self.definitions.value(call.args[0])
        both = operands(call)
        if both is None or not self._all_stored(both):
            return "float"
        return "add" if is_call(call, "add") else "multiply"

    def _all_stored(self, tensors: Any) -> bool:
        return all(self._source(x) is not None for x in tensors)

    def _mark_end(self, layer: Layer, is_stored: bool) -> None:
        """Mark a layer that is not stored; a float one computes with float weights."""
        kind, reason = self._layer_kind(layer)
        if kind == "float":
            self.float_products.add(layer.product)
        if is_stored:
            return
        end = layer.calls[-1]
        if layer.residual is not None and self._source(layer.residual) is None:
            end = layer.before_residual
        name = unique(self.names, self.name_of[layer.calls[-1]])
        self.of_calls[end] = (name, "float" if kind == "float" else "output", reason)


def _same(a: Any, b: Any) -> bool:
    """Whether two parameter tensors are equal constants."""
    if not (is_constant(a) and is_constant(b)):
        return False
    return np.array_equal(constant_value(a), constant_value(b))
