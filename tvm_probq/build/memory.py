"""Bytes of live activations and of constants, from the graph of kernel calls."""

from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import IRModule
from tvm.runtime import DataType

from tvm_probq.ir.expressions import constant_value, ints, is_call, is_constant
from tvm_probq.ir.rewrite import bindings, variables_of


def tensor_bytes(ty: Any) -> int:
    """Bytes of a tensor type, or of all fields of a tuple type."""
    if isinstance(ty, relax.TupleType):
        return sum(tensor_bytes(f) for f in ty.fields)
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return 0
    bits = DataType(str(ty.dtype)).bits
    return int(np.prod(ints(ty.shape), dtype=np.int64)) * -(-bits // 8)


def peak_activation_bytes(mod: IRModule) -> int:
    """Largest sum, over the calls of ``main``, of live tensors and the running kernel's buffers.

    Inputs count from the start, outputs to the end; a marker shares its operand's memory.
    """
    func = mod["main"]
    steps = bindings(func)
    owner = _owners(steps)
    last = _last_reads(func, steps, owner)
    live = {p: tensor_bytes(p.ty) for p in func.params}
    peak = 0
    for step, binding in enumerate(steps):
        if owner[binding.var].same_as(binding.var):
            live[binding.var] = tensor_bytes(binding.var.ty)
        peak = max(peak, sum(live.values()) + _kernel_bytes(mod, binding.value))
        for var in [v for v in live if last.get(v, -1) <= step]:
            del live[var]
    return peak


def parameter_bytes(mod: IRModule) -> int:
    """Bytes of all constant tensors of ``main``."""
    constants = {}
    for binding in bindings(mod["main"]):
        for constant in _constants(binding.value):
            constants[constant] = constant_value(constant).nbytes
    return sum(constants.values())


def _constants(expr: Any) -> list[Any]:
    if is_constant(expr):
        return [expr]
    children = getattr(expr, "args", None) or getattr(expr, "fields", None) or []
    return [c for child in children for c in _constants(child)]


def _owners(steps: list[Any]) -> dict[Any, Any]:
    """The variable whose memory each variable shares: its own, or that behind a marker."""
    owner: dict[Any, Any] = {}
    for binding in steps:
        value = binding.value
        shares = is_call(value, "probq.layer", "reshape", "flatten", "squeeze", "expand_dims")
        source = value.args[0] if shares else value
        alias = isinstance(source, relax.Var)
        owner[binding.var] = owner.get(source, source) if alias else binding.var
    return owner


def _last_reads(func: Any, steps: list[Any], owner: dict[Any, Any]) -> dict[Any, int]:
    last: dict[Any, int] = {}
    for step, binding in enumerate(steps):
        for var in variables_of(binding.value):
            last[owner.get(var, var)] = step
    for var in variables_of(func.body.body):
        last[owner.get(var, var)] = len(steps)
    return last


def _kernel_bytes(mod: IRModule, call: Any) -> int:
    if not is_call(call, "call_tir"):
        return 0
    attrs = mod[call.args[0]].attrs
    names = ("probq.workspace_bytes", "probq.scratch_bytes")
    return sum(int(attrs[n]) for n in names if attrs is not None and n in attrs)
