"""Put predictions into the PrimFunc of the kernel that waits for them."""

from collections.abc import Iterator
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import ints
from tvm_probq.ir.rewrite import clean, variables_of
from tvm_probq.kernels.calls import RESIDUAL, kernel_kind, kernel_of, result_types
from tvm_probq.kernels.merge import merge_kernels

# What finds a range or a correction before a layer runs.
PREDICTIONS = (
    "observe", "predict", "sums", "patch_sums", "surrogate", "correction", "pool_range",
    "merge_ranges", "product_range",
)  # fmt: skip
APART = ("measure",)  # reads the accumulator of a layer that has already run

Result = tuple[Any, int]  # a variable bound to a call, and which of the call's results


@tvm.transform.module_pass(opt_level=0, name="probq.GroupPredictions")
class GroupPredictions:
    """Merge a kernel and all predictions that it waits for into one PrimFunc.

    Before::

        s = R.probq.patch_sums(q, qp, ...)
        y_qp = R.probq.surrogate(s, qp, ..., kind="iid")
        y = R.call_tir(cls.layer, (q, w, ..., qp, y_qp), out_ty=...)

    After::

        all = R.call_tir(cls.predicted_layer, (q, qp, ..., w, ...), out_ty=[...])
        y_qp, y = all[0], all[1]

    A prediction moves to the first kernel that needs it, itself or for another prediction; what
    only that kernel reads is allocated inside.  Predictions that something else reads first (a
    float operator, ``measure``) stay where they are.  Holds before: `FusePredictions` and
    `LowerLayers`; not yet `ReuseResiduals`, behind which tensors change.  Holds after: a layer, a
    sum, a product or a pooling is one PrimFunc together with its prediction.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        builder = relax.BlockBuilder(mod)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and "Primitive" not in (func.attrs or {}):
                blocks = [_grouped(mod, builder, block) for block in func.body.blocks]
                body = relax.SeqExpr(blocks, func.body.body)
                changed = relax.Function(func.params, body, func.ret_ty, func.is_pure, func.attrs)
                builder.update_func(var, changed)
        return clean(builder.get())


def _grouped(mod: IRModule, builder: relax.BlockBuilder, block: Any) -> Any:
    if not isinstance(block, relax.DataflowBlock):
        return block
    return relax.DataflowBlock(list(_Grouper(mod, builder, block).bindings()))


class _Graph:
    """The kernel calls of a block, who reads their results, and where each prediction may go.

    Attributes
    ----------
    values : dict
        What each variable is bound to, in order.
    readers : dict
        By result, the variables bound to what reads it; None stands for what follows the block.
    names : dict
        By result, the variables that stand for it.
    homes : dict
        By prediction, the kernel it moves to; in the order of the block.
    """

    def __init__(self, mod: IRModule, block: relax.DataflowBlock) -> None:
        self.mod = mod
        self.values = {b.var: b.value for b in block.bindings}
        self.kinds = {var: kernel_kind(mod, value) for var, value in self.values.items()}
        self.readers: dict[Result, set[Any]] = {}
        self.names: dict[Result, list[Any]] = {}
        found: dict[Any, Any] = {}
        for var, value in self.values.items():
            if not _is_name(value):
                self._read(found, variables_of(value), var)
            if not isinstance(var.ty, relax.TupleType):
                self.names.setdefault(self.source(var), []).append(var)
        self._read(found, [v for v in self.values if not isinstance(v, relax.DataflowVar)], None)
        for var in [v for v, home in found.items() if home is None]:
            self._pin(found, var)
        self.homes = {var: found[var] for var in self.values if var in found}

    def source(self, tensor: Any) -> Result:
        """The variable, behind names, that `tensor` is a result of, and which result."""
        value = self.values.get(tensor)
        if isinstance(value, relax.Var):
            return self.source(value)
        if isinstance(value, relax.TupleGetItem):
            return self.source(value.tuple_value)[0], int(value.index)
        return tensor, 0

    def _read(self, homes: dict[Any, Any], tensors: list[Any], reader: Any) -> None:
        """Note that `reader` reads tensors; a kernel of one result can be a home."""
        kind = self.kinds.get(reader, "")
        merges = kind and kind not in APART and not isinstance(reader.ty, relax.TupleType)
        for tensor in tensors:
            self.readers.setdefault(self.source(tensor), set()).add(reader)
            if kind not in PREDICTIONS:
                self._need(homes, tensor, reader if merges else None)

    def _need(self, homes: dict[Any, Any], tensor: Any, home: Any) -> None:
        owner, _ = self.source(tensor)
        if self.kinds.get(owner) not in PREDICTIONS:
            return
        if isinstance(tensor.ty, relax.TupleType):  # read as a whole
            homes[owner] = None
        elif owner not in homes:
            homes[owner] = home
            for needed in variables_of(self.values[owner]):
                self._need(homes, needed, home)

    def _pin(self, homes: dict[Any, Any], var: Any) -> None:
        """Leave a prediction where it is, and so those that it needs."""
        homes.pop(var, None)
        for needed in variables_of(self.values[var]):
            owner, _ = self.source(needed)
            if owner in homes:
                self._pin(homes, owner)


class _Grouper:
    """Gives the bindings of a block with every prediction in its home."""

    def __init__(
        self, mod: IRModule, builder: relax.BlockBuilder, block: relax.DataflowBlock
    ) -> None:
        self.builder = builder
        self.block = block
        self.graph = _Graph(mod, block)

    def bindings(self) -> Iterator[Any]:
        """The new bindings in order."""
        homes = self.graph.homes
        moved: dict[Any, list[Any]] = {}
        for prediction, home in homes.items():
            moved.setdefault(home, []).append(prediction)
        for binding in self.block.bindings:
            if binding.var in moved:
                yield from self._merged([*moved[binding.var], binding.var])
            elif self.graph.source(binding.var)[0] not in homes:
                yield binding

    def _merged(self, group: list[Any]) -> Iterator[Any]:
        """One call of the kernels behind the variables of `group`, and names for its results."""
        graph, home = self.graph, group[-1]
        results = {(v, i): ty for v in group for i, ty in enumerate(result_types(v.ty))}
        inside = {
            r for r in results if r[0] is not home and graph.readers.get(r, set()) <= set(group)
        }
        functions, arguments = zip(
            *(kernel_of(graph.mod, graph.values[v]) for v in group), strict=True
        )
        tensors = {graph.source(t): t for args in arguments for t in args}
        inputs = {source: t for source, t in tensors.items() if source not in results}
        place = {source: i for i, source in enumerate([*inputs, *results])}
        wiring = [
            [place[graph.source(t)] for t in args] + [place[r] for r in results if r[0] is v]
            for v, args in zip(group, arguments, strict=True)
        ]
        types = [*(t.ty for t in inputs.values()), *results.values()]
        kernel = merge_kernels(
            functions, wiring, [(ints(ty.shape), str(ty.dtype)) for ty in types],
            {place[r] for r in inside},
        )  # fmt: skip
        kernel = _with_residual(kernel, wiring[-1])
        function = self.builder.add_func(kernel, f"predicted_{graph.kinds[home]}")
        outputs = {r: ty for r, ty in results.items() if r not in inside}
        call = relax.op.call_tir(function, list(inputs.values()), out_ty=list(outputs.values()))
        return self._named(self.builder.normalize(call), list(outputs))

    def _named(self, call: Call, results: list[Result]) -> Iterator[Any]:
        """Bindings of a call and of the names of its results."""
        if len(results) == 1:
            yield relax.VarBinding(results[0][0], call)
            return
        whole = relax.DataflowVar("predicted", call.ty)
        yield relax.VarBinding(whole, call)
        for i, result in enumerate(results):
            for name in self.graph.names[result]:
                yield relax.VarBinding(name, self.builder.normalize(relax.TupleGetItem(whole, i)))


def _with_residual(kernel: tirx.PrimFunc, places: list[int]) -> tirx.PrimFunc:
    """`kernel` with the new place of the residual; without, if the layer multiplies it too."""
    if RESIDUAL not in kernel.attrs:
        return kernel
    place = places[int(kernel.attrs[RESIDUAL])]
    shared = places.count(place) > 1  # it must not be written over
    return kernel.without_attr(RESIDUAL) if shared else kernel.with_attr(RESIDUAL, place)


def _is_name(value: Any) -> bool:
    """Whether a binding only gives a tensor another name."""
    return isinstance(value, relax.Var | relax.TupleGetItem)
