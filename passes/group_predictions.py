"""Put the prediction of a layer's parameters into the layer's own PrimFunc."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import ints, is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.merge import merge_kernels

PREDICTION = "probq.kernel"
LAYER = "probq.instruction"
RESIDUAL = "probq.residual"


@tvm.transform.module_pass(opt_level=0, name="probq.GroupPredictions")
class GroupPredictions:
    """Merge a prediction kernel and the layer kernel that reads its results into one PrimFunc.

    Before::

        both = R.call_tir(cls.probq_predict, (q, qp, ...), out_ty=[...])
        y = R.call_tir(cls.layer, (q, w, ..., both[1], both[0]), out_ty=...)

    After::

        all = R.call_tir(cls.predicted_layer, (q, qp, ..., w, ...), out_ty=[...])
        y, y_qp = all[2], all[0]

    A predicted layer then costs one call of the virtual machine.  Holds before: `FusePredictions`
    and `LowerLayers`.  Holds after: a layer predicted by its moments is one PrimFunc.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _Grouper(mod).visit)


class _Grouper:
    """Visits kernel calls; delays each prediction to the layer that reads it."""

    def __init__(self, mod: IRModule) -> None:
        self.mod = mod
        self.definitions = Definitions(mod["main"])
        self.layer_of = self._pairs()
        self.predictions = {prediction: layer for layer, prediction in self.layer_of.items()}
        self.delayed: dict[Any, tuple[Call, Any]] = {}
        self.results: dict[Any, dict[int, Any]] = {}

    def _pairs(self) -> dict[Any, Any]:
        """Layer calls with the prediction that may move to them."""
        pairs: dict[Any, Any] = {}
        taken: set[Any] = set()
        for call in self.definitions.order:
            if is_call(call, "call_tir") and LAYER in self._attrs(call):
                prediction = self._prediction_of(call)
                if prediction is not None and prediction not in taken:
                    pairs[call] = prediction
                    taken.add(prediction)
        return pairs

    def _attrs(self, call: Call) -> Any:
        return self.mod[call.args[0]].attrs or {}

    def _prediction_of(self, layer: Call) -> Any:
        """The prediction whose every other reader stands behind the layer."""
        for arg in layer.args[1]:
            call = self.definitions.value(arg)
            if isinstance(call, relax.TupleGetItem):
                call = self.definitions.value(call.tuple_value)
            if not is_call(call, "call_tir"):
                continue
            if "predict" in str(self._attrs(call).get(PREDICTION, "")):
                readers = self._readers(call)
                order = self.definitions.order
                if all(order[r] >= order[layer] for r in readers):
                    return call
        return None

    def _readers(self, prediction: Call) -> list[Any]:
        """Calls that read a result of the prediction, through tuple fields."""
        found, front = [], [self.definitions.var_of[prediction]]
        while front:
            for user in self.definitions.users.get(front.pop(), []):
                if isinstance(user, relax.TupleGetItem):
                    front.append(self.definitions.var_of[user])
                else:
                    found.append(user)
        return found

    def visit(self, rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        """Rewrite one call."""
        new = self._with_results(rewriter, new)
        if old in self.predictions:
            variable = rewriter.emit(new, "prediction")
            self.delayed[old] = (new, variable)
            return variable
        if old in self.layer_of and self.layer_of[old] in self.delayed:
            prediction = self.layer_of[old]
            inside = self._inside(prediction, old)
            return self._merge(rewriter, *self.delayed[prediction], new, inside)
        return new

    def _with_results(self, rewriter: Rewriter, call: Call) -> Call:
        """`call` reading the merged kernels' results in place of the predictions'."""
        args = [
            relax.Tuple([self._result(rewriter, f) for f in arg.fields])
            if isinstance(arg, relax.Tuple)
            else self._result(rewriter, arg)
            for arg in call.args
        ]
        return rewriter.builder_.normalize(Call(call.op, args, call.attrs, call.ty_args))

    def _result(self, rewriter: Rewriter, tensor: Any) -> Any:
        variable, field = _source(rewriter, tensor)
        return self.results[variable][field] if variable in self.results else tensor

    def _merge(
        self, rewriter: Rewriter, prediction: Call, variable: Any, layer: Call, inside: set[int]
    ) -> relax.Expr:
        """One call of both kernels; gives the prediction's results, then the layer's."""
        tensors: list[Any] = []
        first = [_index(tensors, t) for t in prediction.args[1]]
        second: list[tuple[int, bool]] = []
        for tensor in layer.args[1]:
            source, field = _source(rewriter, tensor)
            own = source.same_as(variable)
            second.append((field if own else _index(tensors, tensor), own))
        inputs, fields = len(tensors), _output_types(prediction)
        results = range(inputs, inputs + len(fields))
        wiring = [
            [*first, *results],
            [*(results[i] if own else i for i, own in second), inputs + len(fields)],
        ]
        types = [t.ty for t in tensors] + fields + [layer.ty]
        kernel = merge_kernels(
            [self.mod[c.args[0]] for c in (prediction, layer)],
            wiring,
            [(ints(ty.shape), str(ty.dtype)) for ty in types],
            {results[i] for i in inside},
        )
        if RESIDUAL in kernel.attrs:
            at = int(kernel.attrs[RESIDUAL])
            kernel = kernel.with_attr(RESIDUAL, second[at][0])
        function = rewriter.builder_.add_func(kernel, "predicted_layer")
        kept = [i for i in range(len(fields)) if i not in inside]
        outputs = [fields[i] for i in kept] + [layer.ty]
        result = rewriter.emit(relax.op.call_tir(function, tensors, out_ty=outputs), "predicted")
        parts = [rewriter.emit(relax.TupleGetItem(result, i)) for i in range(len(outputs))]
        self.results[variable] = dict(zip(kept, parts, strict=False))
        return parts[-1]

    def _inside(self, prediction: Call, layer: Call) -> set[int]:
        """Results of the prediction that only the layer reads."""
        found = set()
        for user in self.definitions.users[self.definitions.var_of[prediction]]:
            if isinstance(user, relax.TupleGetItem):
                readers = self.definitions.users.get(self.definitions.var_of[user], [])
                if all(r.same_as(layer) for r in readers):
                    found.add(int(user.index))
        return found


def _source(rewriter: Rewriter, tensor: Any) -> tuple[Any, int]:
    """The variable, behind aliases, that `tensor` is (a field of), and which field."""
    tensor = _behind_aliases(rewriter, tensor)
    bound = rewriter.lookup_binding(tensor) if isinstance(tensor, relax.Var) else None
    if isinstance(bound, relax.TupleGetItem):
        return _behind_aliases(rewriter, bound.tuple_value), int(bound.index)
    return tensor, 0


def _behind_aliases(rewriter: Rewriter, tensor: Any) -> Any:
    while isinstance(tensor, relax.Var):
        bound = rewriter.lookup_binding(tensor)
        if not isinstance(bound, relax.Var):
            break
        tensor = bound
    return tensor


def _index(tensors: list[Any], tensor: Any) -> int:
    """Position of `tensor` in the list, at its end if it is new."""
    for i, known in enumerate(tensors):
        if known.same_as(tensor):
            return i
    tensors.append(tensor)
    return len(tensors) - 1


def _output_types(call: Call) -> list[Any]:
    return list(call.ty.fields) if isinstance(call.ty, relax.TupleType) else [call.ty]
