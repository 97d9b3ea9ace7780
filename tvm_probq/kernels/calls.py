"""Which of our kernels a call of a graph runs, be it lowered already or still an operator."""

from typing import Any

from tvm import relax, tirx
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import ints, is_call, op_name
from tvm_probq.kernels.merge import RESIDUAL as RESIDUAL
from tvm_probq.kernels.small import KERNELS
from tvm_probq.ops.registry import PREFIX

KERNEL_CALLS = ("call_tir", "call_tir_inplace")
LAYER = "layer"
IN_BITS = "probq.in_bits"  # attribute of a layer kernel: what codes of its input are stored in
_INSTRUCTION = "probq.instruction"
_KERNEL = "probq.kernel"


def kernel_kind(mod: IRModule, value: Any) -> str:
    """Which of our kernels `value` calls: "layer" or an operator's name; empty for all else."""
    if is_call(value, "call_tir"):
        attrs = mod[value.args[0]].attrs or {}
        kind = str(attrs.get(_KERNEL, "")).removeprefix("probq_")
        return LAYER if _INSTRUCTION in attrs else kind
    name = op_name(value).removeprefix(PREFIX)
    return name if name in KERNELS else ""


def kernel_of(mod: IRModule, call: Call) -> tuple[tirx.PrimFunc, list[Any]]:
    """The kernel that a call of some kind runs, and the tensors it reads."""
    if is_call(call, "call_tir"):
        return mod[call.args[0]], arguments(call)
    return KERNELS[kernel_kind(mod, call)](call), arguments(call)


def arguments(call: Call) -> list[Any]:
    """The tensors that a kernel call reads."""
    return list(call.args[1].fields if is_call(call, "call_tir") else call.args)


def overwritten(call: Call) -> list[int]:
    """For each result of a lowered call the argument in whose memory it is, -1 for new memory."""
    if is_call(call, "call_tir_inplace"):
        return list(ints(call.attrs.inplace_indices))
    return [-1] * len(result_types(call.ty))


def result_types(ty: Any) -> list[Any]:
    """Types of the tensors that a call of type `ty` writes."""
    return list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
