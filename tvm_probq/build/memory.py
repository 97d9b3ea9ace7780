"""Bytes of live activations and of constants, from the graph of kernel calls."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm.ir import IRModule

from tvm_probq.ir.expressions import constant_value, is_call, is_constant, op_name
from tvm_probq.ir.memory import SHARING, tensor_bytes
from tvm_probq.ir.rewrite import bindings, variables_of
from tvm_probq.kernels.calls import KERNEL_CALLS, overwritten


@dataclass(frozen=True)
class Peak:
    """The moment when most bytes of activations are alive.

    Attributes
    ----------
    total : int
        Bytes of live tensors and of the running kernel's buffers.
    tensors : tuple of (str, int)
        What is alive and its bytes, largest first: layers, inputs, or operators without a name.
    """

    total: int
    tensors: tuple[tuple[str, int], ...]


def peak_activation_bytes(mod: IRModule) -> int:
    """Largest sum, over the calls of ``main``, of live tensors and the running kernel's buffers.

    Inputs count from the start, outputs to the end; a marker, a reshape and an in-place call share
    their operand's memory.
    """
    return peak_of(mod).total


def peak_of(mod: IRModule) -> Peak:
    """The peak of `peak_activation_bytes`, and what is alive then."""
    func = mod["main"]
    steps = bindings(func)
    memory = _Memory(list(func.params))
    for step, binding in enumerate(steps):
        memory.bind(step, binding.var, binding.value)
    memory.read(len(steps), func.body.body)
    peak = Peak(0, ())
    for step, binding in enumerate(steps):
        inside = _kernel_bytes(mod, binding.value)
        alive = [*memory.live(step), ("buffers of the running kernel", inside)]
        total = sum(size for _, size in alive)
        if total > peak.total:
            ordered = sorted(alive, key=lambda named: -named[1])
            peak = Peak(total, tuple(named for named in ordered if named[1]))
    return peak


class _Memory:
    """Buffers by number: name, size, the step that makes them and the last that reads them."""

    def __init__(self, params: list[Any]) -> None:
        self.name: list[str] = []
        self.size: list[int] = []
        self.first: list[int] = []
        self.last: list[int] = []
        self.buffers: dict[Any, list[int]] = {p: self._new(0, p, p.name) for p in params}

    def _new(self, step: int, var: Any, name: str) -> list[int]:
        ty = var.ty
        fields = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
        start = len(self.size)
        self.name += [name] * len(fields)
        self.size += [tensor_bytes(f) for f in fields]
        self.first += [step] * len(fields)
        self.last += [step] * len(fields)
        return list(range(start, len(self.size)))

    def read(self, step: int, expr: Any) -> None:
        """Note that `expr` reads its variables."""
        for var in variables_of(expr):
            for buffer in self.buffers.get(var, []):
                self.last[buffer] = step

    def bind(self, step: int, var: Any, value: Any) -> None:
        """Note what a binding makes."""
        if isinstance(value, relax.TupleGetItem):  # naming a field reads nothing
            self.buffers[var] = [self.buffers[value.tuple_value][int(value.index)]]
            return
        self.read(step, value)
        source = value.args[0] if is_call(value, *SHARING) else value
        if isinstance(source, relax.Var):
            self.buffers[var] = self.buffers[source]
            if is_call(value, "probq.layer"):
                for buffer in self.buffers[var]:
                    self.name[buffer] = str(value.attrs["name"])
            return
        if isinstance(value, relax.Tuple):
            self.buffers[var] = [b for f in value.fields for b in self.buffers.get(f, [])]
            return
        self.buffers[var] = self._new(step, var, _name(value))
        if is_call(value, *KERNEL_CALLS):
            for i, place in enumerate(overwritten(value)):
                if place >= 0:
                    self.size[self.buffers[var][i]] = 0
                    self.buffers[var][i] = self.buffers[value.args[1][place]][0]

    def live(self, step: int) -> list[tuple[str, int]]:
        """Names and bytes of the buffers that exist while a step runs."""
        spans = zip(self.name, self.size, self.first, self.last, strict=True)
        return [(name, size) for name, size, first, last in spans if first <= step <= last]


def parameter_bytes(mod: IRModule) -> int:
    """Bytes of all constant tensors of ``main``."""
    return constant_bytes([binding.value for binding in bindings(mod["main"])])


def constant_bytes(expressions: Iterable[Any]) -> int:
    """Bytes of the constant tensors in some expressions, each counted once."""
    found = {c: constant_value(c).nbytes for expr in expressions for c in _constants(expr)}
    return sum(found.values())


def _constants(expr: Any) -> list[Any]:
    if is_constant(expr):
        return [expr]
    children = getattr(expr, "args", None) or getattr(expr, "fields", None) or []
    return [c for child in children for c in _constants(child)]


def _name(value: Any) -> str:
    """The kernel that a call runs, or its operator."""
    return str(value.args[0].name_hint) if is_call(value, *KERNEL_CALLS) else op_name(value)


def _kernel_bytes(mod: IRModule, call: Any) -> int:
    if not is_call(call, *KERNEL_CALLS):
        return 0
    attrs = mod[call.args[0]].attrs
    names = ("probq.workspace_bytes", "probq.scratch_bytes", "probq.inside_bytes")
    return sum(int(attrs[n]) for n in names if attrs is not None and n in attrs)
