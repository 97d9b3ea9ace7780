"""Run kernels ahead-of-time: from one function that knows where each tensor lies."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import IRModule

from tvm_probq.ir.expressions import constant_value, ints, is_call, is_constant
from tvm_probq.ir.memory import SHARING, tensor_bytes
from tvm_probq.ir.rewrite import variables_of
from tvm_probq.kernels.arena import Layout, Life, in_turn, packed, shared
from tvm_probq.kernels.calls import KERNEL_CALLS, overwritten, result_types
from tvm_probq.kernels.embedded import Embedded
from tvm_probq.kernels.subroutine import as_subroutine, call_in_turn, with_workspace


@tvm.transform.module_pass(opt_level=0, name="probq.LowerToAot")
class LowerToAot:
    """Call each run of kernels from a function of its own.

    Before::

        a = R.call_tir(cls.layer, (x, c1), out_ty=R.Tensor((1, 8, 8, 16), dtype="uint8"))
        b = R.call_tir(cls.layer1, (a, c2), out_ty=R.Tensor((1, 8, 8, 16), dtype="uint8"))

    After::

        @T.prim_func
        def run(x: T.Buffer(...), b: T.Buffer(...), arena: T.Buffer(...)):
            constants = T.call_extern("handle", "probq_constants_1f0c...")
            layer_aot(x.data, T.address_of(constants[0]), T.address_of(arena[0]))
            layer1_aot(T.address_of(arena[0]), T.address_of(constants[448]), b.data)

        results = R.call_tir(cls.run, (x,), out_ty=[...])
        b = results[0]

    The virtual machine then makes one call for the whole run, where each kernel's call and each
    tensor between them cost a tenth of a microsecond.  Tensors that do not exist at the same time
    share memory in the arena.  Constants become part of the code, so that no copy of them is made
    when the library is loaded.  A run ends where something else than a PrimFunc is called, and at a
    shape or an offset that is not known.  Holds before: `relax.transform.FuseTIR`.  Holds after:
    kernels in runs are subroutines, which the TIR pipeline of :mod:`tvm_probq.build.tir_pipeline`
    compiles.

    Parameters
    ----------
    folder : Path
        Where constants are written for LLVM to read. It must be there until code was generated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        main, builder = mod["main"], relax.BlockBuilder(mod)
        blocks = [
            _with_runs(_Run(mod, self.folder), builder, block, following)
            for block, following in zip(main.body.blocks, _read_behind(main), strict=True)
        ]
        body = relax.SeqExpr(blocks, main.body.body)
        changed = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
        builder.update_func(mod.get_global_var("main"), changed)
        return relax.transform.DeadCodeElimination()(builder.get())


def _read_behind(main: relax.Function) -> list[set[Any]]:
    """For each block, the variables read behind it."""
    read = set(variables_of(main.body.body))
    found = []
    for block in reversed(main.body.blocks):
        found.append(set(read))
        read.update(v for b in block.bindings for v in variables_of(b.value))
    return found[::-1]


def _with_runs(run: "_Run", builder: relax.BlockBuilder, block: Any, behind: set[Any]) -> Any:
    """The block with its runs of kernel calls replaced; `run` is empty, `behind` read after it."""
    later = [behind]
    for binding in reversed(block.bindings):
        later.append(later[-1] | set(variables_of(binding.value)))
    *later, _ = reversed(later)  # read by each binding and after it
    bindings: list[Any] = []
    for binding, read in zip(block.bindings, later, strict=True):
        if not run.takes(binding):
            bindings += [*run.replaced(builder, read), binding]
            run = _Run(run.mod, run.folder)
    bindings += run.replaced(builder, behind)
    dataflow = isinstance(block, relax.DataflowBlock)
    return (relax.DataflowBlock if dataflow else relax.BindingBlock)(bindings)


@dataclass
class _Tensor:
    """Memory that a run uses: what was given to it, or None for what it makes, and how long."""

    given: Any
    ty: Any
    first: int
    last: int

    @property
    def life(self) -> Life:
        """Its size and steps."""
        return Life(tensor_bytes(self.ty), self.first, self.last)


@dataclass
class _Run:
    """Bindings of kernel calls one after the other, and of names for their results.

    Attributes
    ----------
    tensors : list of _Tensor
        All memory.
    calls : list
        By step, the kernel and its parameters' indices into `tensors`.
    places : dict
        By variable or constant, the indices of its tensor, or of the tuple's tensors.
    """

    mod: IRModule
    folder: Path
    bindings: list[Any] = field(default_factory=list)
    tensors: list[_Tensor] = field(default_factory=list)
    calls: list[tuple[Any, list[int]]] = field(default_factory=list)
    places: dict[Any, list[int]] = field(default_factory=dict)

    def takes(self, binding: Any) -> bool:
        """Take a binding into the run if it can be part of it."""
        value = binding.value
        source = value.args[0] if is_call(value, *SHARING) else value
        if isinstance(source, relax.TupleGetItem):
            found = self.places.get(source.tuple_value, [])[int(source.index) :][:1]
        elif isinstance(source, relax.Var):
            found = self.places.get(source, [])
        else:
            found = self._called(value) if self._is_kernel(value) else []
        if found:
            self.places[binding.var] = found
            self.bindings.append(binding)
        return bool(found)

    def _is_kernel(self, value: Any) -> bool:
        if not is_call(value, *KERNEL_CALLS) or len(value.args) != 2:
            return False
        arguments = value.args[1].fields
        types = [*(a.ty for a in arguments), *result_types(value.ty)]
        targets = [arguments[i] for i in overwritten(value) if i >= 0]
        if not all(map(_is_static, types)) or not all(a in self.places for a in targets):
            return False
        # A pointer says nothing of an offset, which TVM's external loops may declare.
        return all(isinstance(p.elem_offset, tirx.IntImm) for p in self.mod[value.args[0]].params)

    def _called(self, call: Any) -> list[int]:
        step = len(self.calls)
        read = [self._read(argument, step) for argument in call.args[1].fields]
        results, parameters = [], list(read)
        for argument, ty in zip(overwritten(call), result_types(call.ty), strict=True):
            results.append(read[argument] if argument >= 0 else self._new(None, ty, step))
            parameters += [results[-1]] if argument < 0 else []
        self.calls.append((call.args[0], parameters))
        return results

    def _read(self, tensor: Any, step: int) -> int:
        if tensor not in self.places:
            self.places[tensor] = [self._new(tensor, tensor.ty, step)]
        (index,) = self.places[tensor]
        self.tensors[index].last = step
        return index

    def _new(self, given: Any, ty: Any, step: int) -> int:
        self.tensors.append(_Tensor(given, ty, step, step))
        return len(self.tensors) - 1

    def replaced(self, builder: relax.BlockBuilder, later: set[Any]) -> list[Any]:
        """The bindings that take the place of the run's own; `later` is read behind it."""
        names = [b.var for b in self.bindings if b.var in later]
        if len(self.calls) < 2 or any(isinstance(v.ty, relax.TupleType) for v in names):
            return self.bindings
        kernels = [with_workspace(self.mod[f]) for f, _ in self.calls]
        most = max(size for _, size in kernels)
        workspace = self._workspace(most) if most else -1
        roles = _Roles.of(self.tensors, {self.places[v][0] for v in names}, self.folder)
        calls = []
        for (function, parameters), (kernel, size) in zip(self.calls, kernels, strict=True):
            indices = [*parameters, workspace] if size else parameters
            subroutine = self._subroutine(builder, kernel, str(function.name_hint))
            calls.append((subroutine, [roles.pointers[i] for i in indices]))
        function = builder.add_func(call_in_turn(calls, roles.params, roles.constants), "run")
        call = builder.normalize(
            relax.op.call_tir(function, roles.arguments, out_ty=roles.result_types)
        )
        results = relax.DataflowVar("results", call.ty)
        bindings = [relax.VarBinding(results, call)]
        for name in names:
            tensor = self.tensors[self.places[name][0]]
            value = tensor.given
            if value is None:
                value = results
                if len(roles.result_types) > 1:
                    at = roles.outputs.index(self.places[name][0])
                    value = relax.TupleGetItem(results, at)
            bindings += _named(builder, name, value, tensor.ty)
        return bindings

    def _workspace(self, size: int) -> int:
        """Memory for the buffers of whichever kernel is running."""
        first = self._new(None, relax.TensorType((size,), "uint8"), 0)
        self.tensors[first].last = len(self.calls) - 1
        return first

    def _subroutine(self, builder: relax.BlockBuilder, kernel: Any, name: str) -> Any:
        return builder.add_func(as_subroutine(kernel, name), f"{name}_aot")


@dataclass(frozen=True)
class _Roles:
    """What becomes of each tensor of a run: an input, a constant, an output, or in the arena.

    Attributes
    ----------
    outputs : list of int
        Indices of the tensors that are read behind the run.
    params : list of tirx.Buffer
        Inputs, outputs, arena.
    constants : Embedded or None
        All constants.
    arguments : list of relax.Expr
        What stands for the inputs.
    result_types : list of relax.TensorType
        Types of the outputs and the arena.
    pointers : dict
        By index of a tensor, the pointer to it inside the function.
    """

    outputs: list[int]
    params: list[tirx.Buffer]
    constants: Embedded | None
    arguments: list[Any]
    result_types: list[Any]
    pointers: dict[int, Any]

    @staticmethod
    def of(tensors: list[_Tensor], named: set[int], folder: Path) -> "_Roles":
        """Give every tensor its role; `named` are read behind the run, `folder` as in the pass."""
        made = [i for i, t in enumerate(tensors) if t.given is None]
        outputs = [i for i in made if i in named]
        inner = [i for i in made if i not in named]
        constants = [i for i, t in enumerate(tensors) if is_constant(t.given)]
        inputs = [i for i in range(len(tensors)) if i not in made and i not in constants]
        values = [constant_value(tensors[i].given) for i in constants]
        pool = in_turn(v.nbytes for v in values)
        arena = shared([tensors[i].life for i in inner])
        whole = {i: _buffer(tensors[i].ty, f"tensor{i}") for i in [*inputs, *outputs]}
        embedded = Embedded.write(packed(values, pool), folder) if constants else None
        in_pool = {} if embedded is None else _pointers(embedded.buffer, constants, pool)
        arenas = [tirx.decl_buffer((arena.size_bytes,), "uint8", "arena")] if inner else []
        in_arena = _pointers(arenas[0], inner, arena) if inner else {}
        given, results = [tensors[i].given for i in inputs], [tensors[i].ty for i in outputs]
        if inner:
            results.append(relax.TensorType((arena.size_bytes,), "uint8"))
        params = [*(whole[i] for i in [*inputs, *outputs]), *arenas]
        pointers = {i: b.data for i, b in whole.items()} | in_pool | in_arena
        return _Roles(outputs, params, embedded, given, results, pointers)


def _pointers(buffer: tirx.Buffer, indices: list[int], layout: Layout) -> dict[int, Any]:
    """By index of a tensor, the pointer to where it lies in `buffer`."""
    offsets = zip(indices, layout.offsets, strict=True)
    return {i: tirx.address_of(buffer[offset]) for i, offset in offsets}


def _named(builder: relax.BlockBuilder, name: Any, value: Any, ty: Any) -> list[Any]:
    """Bind `name` to a result of type `ty`, or to a view of it with the shape of `name`."""
    value = builder.normalize(value)
    if list(ints(name.ty.shape)) == list(ints(ty.shape)):
        return [relax.VarBinding(name, value)]
    whole = relax.DataflowVar("whole", ty)
    view = builder.normalize(relax.op.reshape(whole, name.ty.shape))
    return [relax.VarBinding(whole, value), relax.VarBinding(name, view)]


def _is_static(ty: Any) -> bool:
    return (
        isinstance(ty, relax.TensorType)
        and isinstance(ty.shape, relax.ShapeExpr)
        and all(isinstance(extent, tirx.IntImm) for extent in ty.shape.values)
    )


def _buffer(ty: Any, name: str) -> tirx.Buffer:
    return tirx.decl_buffer(ints(ty.shape), str(ty.dtype), name)
