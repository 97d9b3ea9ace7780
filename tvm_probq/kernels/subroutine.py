"""Kernels that other functions call directly, with pointers in place of tensors."""

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.ir import Call, GlobalVar, PrimType, StringImm
from tvm.s_tir import SBlock, SBlockRealize

from tvm_probq.kernels.embedded import Embedded
from tvm_probq.kernels.merge import with_views

SUBROUTINE = "probq.subroutine"  # attribute: the kernel's own name


def as_subroutine(kernel: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    """A scheduled kernel, called `name` in messages, with a pointer in place of each buffer."""
    pointers = [tirx.Var(p.name, p.data.ty) for p in kernel.params]
    views = [tirx.DeclBuffer(p, data=q) for p, q in zip(kernel.params, pointers, strict=True)]
    body = [with_views(kernel, pointers, views).body, tirx.Return(tirx.const(0, "int32"))]
    function = tirx.PrimFunc(pointers, tirx.SeqStmt(body), PrimType("int32"), kernel.attrs)
    return function.with_attr(SUBROUTINE, name)


def call_in_turn(
    calls: Sequence[tuple[GlobalVar, Sequence[Any]]],
    params: Sequence[tirx.Buffer],
    constants: Embedded | None,
) -> tirx.PrimFunc:
    """A function of `params` that calls subroutines with pointers, one after the other."""
    steps: list[tirx.Stmt] = []
    for subroutine, pointers in calls:
        code = Call(subroutine, list(pointers), ret_ty=PrimType("int32"))
        failed = tirx.NE(code, tirx.const(0, "int32"))
        stop = tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_throw_last_error"))
        steps.append(tirx.IfThenElse(failed, stop, None))
    inside = tirx.SeqStmt(steps) if constants is None else constants.around(tirx.SeqStmt(steps))
    body = SBlockRealize([], True, SBlock([], [], [], "root", inside))
    attrs = {"tirx.is_scheduled": True, "tirx.noalias": True}
    return tirx.PrimFunc(params, body).with_attrs(attrs)


def as_compiled(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A lowered subroutine as ``MakePackedAPI`` leaves functions that are called with tensors.

    Its code goes to a function ``{name}_compute_``, which LLVM does not inline and whose pointers
    it knows to be distinct and aligned, and its workspace is the CPU's.
    """
    *body, end = function.body.seq
    label = StringImm(f"{function.attrs[SUBROUTINE]}_compute_")
    zero = tirx.const(0, "int32")
    compute = tirx.AttrStmt(zero, "compute_scope", label, tirx.SeqStmt(body))
    placed: Any = tirx.SeqStmt([compute, end])
    for key in ("device_id", "device_type"):
        placed = tirx.AttrStmt(StringImm("default"), key, int(key == "device_type"), placed)
    return function.with_body(placed)
