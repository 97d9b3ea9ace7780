"""Mark every tensor that is to be stored quantized, and name it."""

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import describe, is_call, is_constant, shape_of
from tvm_probq.ir.islands import explain, upstream
from tvm_probq.ir.layers import (
    Definitions,
    Layer,
    find_layers,
    is_clip,
    is_global_pool,
    is_pair_product,
    moves_codes,
    operands,
)
from tvm_probq.ir.rewrite import Rewriter, rewrite

NAMES = "probq_layer_names"
PAIR_NAMES = "probq_pair_names"  # of products of two tensors


@tvm.transform.module_pass(opt_level=0, name="probq.AnnotateLayers")
class AnnotateLayers:
    """Put a ``R.probq.layer`` marker behind every tensor that is to be stored quantized.

    Before::

        lv = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
        lv1 = R.add(lv, bias)
        lv2 = R.probq.activation(lv1, kind="clip(0.0,inf)")

    After::

        x1 = R.probq.layer(x, name="input", kind="input")
        lv = R.nn.conv2d(x1, w, data_layout="NHWC", kernel_layout="OHWI")
        lv1 = R.add(lv, bias)
        lv2 = R.probq.activation(lv1, kind="clip(0.0,inf)")
        lv3 = R.probq.layer(lv2, name="conv1", kind="conv2d")

    Kinds: ``conv2d``, ``dense`` (products with constant weights), ``pool``, ``add``, ``multiply``
    (elementwise, of two tensors or of a tensor and its gate), ``matmul`` (of two tensors, as in
    attention), ``concat``, ``input``, and ``float``
    for what another operator hands to a quantized one, with the reason.  A product that no operator
    on codes reads, because it leaves the function or goes on in float, is marked ``output`` and
    stays float32.

    Parameters
    ----------
    skip : Mapping of str to str
        Layers that stay float, with the reason.

    Holds before: canonical form, channels last.  Holds after: every operand of a product with
    constant weights comes from a marker, through operators that only move values.
    """

    def __init__(self, skip: Mapping[str, str] | None = None) -> None:
        self.skip = dict(skip or {})

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        func = mod["main"]
        definitions = Definitions(func)
        if any(is_call(call, "probq.layer") for call in definitions.order):
            return mod
        marks = _Marks(definitions, self.skip)

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            return _with_markers(rewriter, marks, old, new)

        return rewrite(mod, visit)


def _with_markers(rewriter: Rewriter, marks: "_Marks", old: Call, new: Call) -> relax.Expr | None:
    args = [_marked_operand(rewriter, marks, a) for a in new.args]
    changed = any(not a.same_as(b) for a, b in zip(args, new.args, strict=True))
    call = Call(new.op, args, new.attrs, new.ty_args) if changed else new
    mark = marks.of_calls.get(old)
    if mark is None:
        return call
    return ops.layer(rewriter.emit(call), name=mark[0], kind=mark[1], reason=mark[2])


def _marked_operand(rewriter: Rewriter, marks: "_Marks", x: Any) -> relax.Expr:
    """`x`, or for a marked function parameter its marker, emitted once."""
    if isinstance(x, relax.Tuple):
        fields = [_marked_operand(rewriter, marks, field) for field in x.fields]
        changed = any(not a.same_as(b) for a, b in zip(fields, x.fields, strict=True))
        return relax.Tuple(fields) if changed else x
    mark = marks.of_inputs.get(x) if isinstance(x, relax.Var) else None
    if mark is None:
        return x
    if mark[0] not in marks.emitted:
        marker = ops.layer(x, name=mark[0], kind=mark[1], reason=mark[2])
        marks.emitted[mark[0]] = rewriter.emit(marker)
    return marks.emitted[mark[0]]


Mark = tuple[str, str, str]


class _Marks:
    """Which calls and parameters get a marker, decided on the old function.

    A tensor is stored as codes if an operator on codes asks for it: the operand of a product, and
    what it is made of.
    """

    def __init__(self, definitions: Definitions, skip: Mapping[str, str]) -> None:
        self.definitions = definitions
        self.of_calls: dict[Any, Mark] = {}
        self.of_inputs: dict[Any, Mark] = {}
        self.emitted: dict[str, Any] = {}
        self.names: set[str] = set()
        self.asked: set[Any] = set()
        layers = find_layers(definitions)
        self.layers = {layer.calls[-1]: layer for layer in layers}
        products = [c for c in definitions.order if is_pair_product(definitions, c)]
        given = layer_names(definitions.func, len(layers))
        for index, layer in enumerate(layers):
            name = self._unique(given[index] or default_name(layer, index))
            kind = "float" if name in skip else _product_kind(layer)
            self.of_calls[layer.calls[-1]] = (name, kind, skip.get(name, ""))
        pair_names = layer_names(definitions.func, len(products), PAIR_NAMES)
        for product, name in zip(products, pair_names, strict=True):
            self.of_calls[product] = (self._unique(name or "matmul"), "matmul", "")
        for product in products:
            for factor in product.args:
                self._ask(factor)
        for layer in layers:
            self._ask_for_operand(layer, layer.x)
        for call in [*self.layers, *products]:
            if call not in self.asked:
                self._leave(call)

    def _ask_for_operand(self, layer: Layer, operand: Any) -> None:
        """Store an operand of a layer as codes, or leave the layer float."""
        if not self._ask(operand):
            name, _, _ = self.of_calls[layer.calls[-1]]
            reason = "it reads one of several results of an operator"
            self.of_calls[layer.calls[-1]] = (name, "float", reason)

    def _leave(self, call: Any) -> None:
        """A product that nothing on codes reads stays float32.

        So does its sum with a residual, unless that is stored anyway.
        """
        name, kind, reason = self.of_calls.pop(call)
        layer = self.layers.get(call)
        if layer is not None and layer.residual is not None and not self._is_stored(layer.residual):
            call = layer.before_residual
        self.of_calls[call] = (name, "float" if kind == "float" else "output", reason)

    def _is_stored(self, var: Any) -> bool:
        call = self.definitions.value(var)
        if isinstance(call, relax.Var):
            return call in self.of_inputs
        if self._moves(call):
            return self._is_stored(call.args[0])
        return call in self.asked

    def _ask(self, var: Any) -> bool:
        """Store what `var` comes from as codes; False if that cannot be."""
        call = self.definitions.value(var)
        if isinstance(call, relax.Var):
            if call not in self.of_inputs:
                self.of_inputs[call] = (self._unique(call.name), "input", "")
            return True
        if self._moves(call):
            return self._ask(call.args[0])
        if isinstance(call, relax.TupleGetItem):
            return False
        if isinstance(call, Call) and call not in self.asked:
            self.asked.add(call)
            self._store(call)
        return True

    def _store(self, call: Call) -> None:
        """Mark a call whose result is to be stored as codes, and what it reads."""
        if call in self.of_calls:
            layer = self.layers.get(call)
            if layer is not None and layer.residual is not None:
                self._ask_for_operand(layer, layer.residual)
        elif (inner := self._elementwise(call)) is not None:
            self._mark_call(call, describe(inner), list(inner.args))
        elif (fields := self._joined(call)) and any(map(self._is_integer, fields)):
            self._mark_call(call, "concat", fields)
        elif is_global_pool(call):
            self._mark_call(call, "pool", [call.args[0]])
        else:
            reason = explain(self.definitions, self._floats(call))
            self.of_calls[call] = (self._unique(describe(call).replace(".", "_")), "float", reason)

    def _floats(self, call: Call) -> list[Any]:
        """`call` and the float calls behind it."""
        return upstream(self.definitions, call, lambda var: self._is_integer(var))

    def _moves(self, call: Any) -> bool:
        """Whether codes go through `call`: it moves them, or clips what is integer anyway."""
        if moves_codes(call):
            return True
        if not is_clip(call) or call in self.of_calls or self._elementwise(call) is not None:
            return False
        return self._is_integer(call.args[0])

    def _elementwise(self, call: Any) -> Call | None:
        """The sum or product of two tensors behind `call`, which may be the clip after it."""
        if is_call(call, "probq.activation") and isinstance(call.args[0], relax.Var):
            inner = self.definitions.value(call.args[0])
            linear = ops.parse_activation(str(call.attrs["kind"])).linear
            if not linear or not is_call(inner, "add", "multiply"):
                return None
            if self.definitions.only_user(inner) is None or inner in self.of_calls:
                return None
            call = inner
        found = operands(call)
        if found is None or any(is_constant(self.definitions.value(x)) for x in found):
            return None
        if is_call(call, "multiply") and shape_of(found[0]) != shape_of(found[1]):
            return call
        # One rounding more in between is not worth it where an operand is float anyway.
        return call if all(map(self._is_integer, found)) else None

    def _joined(self, call: Any) -> list[Any]:
        """The tensors that `call` joins, none for other operators and for joined samples."""
        if not is_call(call, "concat") or not int(call.attrs.axis) % len(shape_of(call)):
            return []
        return list(self.definitions.value(call.args[0]).fields)

    def _is_integer(self, var: Any) -> bool:
        """Whether a tensor is, or can be, computed in integers."""
        call = self.definitions.value(var)
        if isinstance(call, relax.Var):
            return True
        if call in self.of_calls:
            return self.of_calls[call][1] != "float"
        if moves_codes(call):
            return self._is_integer(call.args[0])
        if fields := self._joined(call):
            return any(map(self._is_integer, fields))
        if is_global_pool(call) or self._elementwise(call) is not None:
            return True
        return is_clip(call) and self._is_integer(call.args[0])

    def _mark_call(self, call: Call, kind: str, operands: list[Any]) -> None:
        self.of_calls[call] = (self._unique(kind), kind, "")
        for operand in operands:
            self._ask(operand)

    def _unique(self, wanted: str) -> str:
        return unique(self.names, wanted)


def unique(names: set[str], wanted: str) -> str:
    """A name that is not among `names`, which takes it up."""
    name, number = wanted, 1
    while name in names:
        name, number = f"{wanted}_{number}", number + 1
    names.add(name)
    return name


def layer_names(func: relax.Function, count: int, key: str = NAMES) -> list[str]:
    """Names that the front end left on the function, if they fit its layers."""
    attrs = func.attrs
    names = [str(n) for n in attrs[key]] if attrs is not None and key in attrs else []
    return names if len(names) == count else [""] * count


def default_name(layer: Layer, index: int) -> str:
    """The name of a layer that has none."""
    return f"{_product_kind(layer)}_{index}"


def _product_kind(layer: Layer) -> str:
    return "dense" if is_call(layer.product, "matmul") else "conv2d"
