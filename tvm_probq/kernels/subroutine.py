"""Kernels that other functions call directly, with pointers in place of tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, GlobalVar, IRModule, PrimType, StringImm
from tvm.s_tir import SBlock, SBlockRealize, renew_defs
from tvm.tirx import For, ForKind

from tvm_probq.kernels.arena import in_turn
from tvm_probq.kernels.embedded import Embedded
from tvm_probq.kernels.merge import size_bytes, with_views

SUBROUTINE = "probq.subroutine"  # attribute: the kernel's own name
STACK_BYTES = 1024  # from which on TVM allocates on the heap


def as_subroutine(kernel: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    """A scheduled kernel, called `name` in messages, with a pointer in place of each buffer."""
    pointers = [tirx.Var(p.name, p.data.ty) for p in kernel.params]
    views = [tirx.DeclBuffer(p, data=q) for p, q in zip(kernel.params, pointers, strict=True)]
    body = [with_views(kernel, pointers, views).body, tirx.Return(tirx.const(0, "int32"))]
    function = tirx.PrimFunc(pointers, tirx.SeqStmt(body), PrimType("int32"), kernel.attrs)
    return function.with_attr(SUBROUTINE, name)


def with_workspace(kernel: tirx.PrimFunc) -> tuple[tirx.PrimFunc, int]:
    """`kernel` with a last parameter, uint8, that holds its large buffers, and the size of that.

    TVM would take each of them from the heap at every call.  Small buffers are on the stack, and
    those of parallel tasks are each task's own.  Without large buffers it is the kernel itself, and
    the size is 0.
    """
    large: list[tirx.Var] = []
    of_tasks: list[tirx.Var] = []

    def allocated(stmt: tirx.AllocBuffer) -> None:
        if _bytes(stmt.buffer) >= STACK_BYTES:
            large.append(stmt.buffer)

    def parallel(stmt: For) -> None:
        if stmt.kind == ForKind.PARALLEL:
            inside = (tirx.AllocBuffer, lambda found: of_tasks.append(found.buffer))
            tvm_ffi.structural_walk(stmt.body, inside)

    tvm_ffi.structural_walk(kernel.body, [(tirx.AllocBuffer, allocated), (For, parallel)])
    hoisted = [b for b in large if not any(b.same_as(other) for other in of_tasks)]
    if not hoisted:
        return kernel, 0
    layout = in_turn(_bytes(b) for b in hoisted)
    workspace = tirx.decl_buffer((layout.size_bytes,), "uint8", "workspace")
    places = dict(zip(hoisted, layout.offsets, strict=True))

    def declared(stmt: tirx.AllocBuffer) -> tirx.Stmt:
        if stmt.buffer not in places:
            return stmt
        return tirx.DeclBuffer(stmt.buffer, data=tirx.address_of(workspace[places[stmt.buffer]]))

    body = tvm_ffi.structural_map(kernel.body, (tirx.AllocBuffer, declared))
    changed = tirx.PrimFunc([*kernel.params, workspace], body, kernel.ret_type, kernel.attrs)
    return changed, layout.size_bytes


def _bytes(buffer: tirx.Var) -> int:
    return size_bytes([int(d) for d in buffer.shape], str(buffer.dtype))


def call_in_turn(
    calls: Sequence[tuple[GlobalVar, Sequence[Any]]],
    params: Sequence[tirx.Buffer],
    constants: Embedded | None,
) -> tirx.PrimFunc:
    """A function of `params` that calls subroutines with pointers, one after the other."""
    steps = tirx.SeqStmt([checked_call(subroutine, pointers) for subroutine, pointers in calls])
    inside = steps if constants is None else constants.around(steps)
    body = SBlockRealize([], True, SBlock([], [], [], "root", inside))
    attrs = {"tirx.is_scheduled": True, "tirx.noalias": True}
    return tirx.PrimFunc(params, body).with_attrs(attrs)


def checked_call(subroutine: GlobalVar, arguments: Sequence[Any]) -> tirx.Stmt:
    """A call of a subroutine, and what to do if it fails."""
    code = Call(subroutine, list(arguments), ret_ty=PrimType("int32"))
    failed = tirx.NE(code, tirx.const(0, "int32"))
    stop = tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_throw_last_error"))
    return tirx.IfThenElse(failed, stop, None)


@dataclass(frozen=True)
class Extracted:
    """A subroutine that does what code of another function does.

    Its parameters are pointers to the buffers that the code does not allocate itself, then scalars.

    Attributes
    ----------
    function : tirx.PrimFunc
        The subroutine.
    buffers, scalars : list of tirx.Var
        What the code reads and writes.
    """

    function: tirx.PrimFunc
    buffers: list[tirx.Var]
    scalars: list[tirx.Var]

    @staticmethod
    def of(code: tirx.Stmt, name: str) -> "Extracted":
        """Make it of `code`; called `name` in messages."""
        free = tirx.analysis.undefined_vars(code)
        buffers = [v for v in free if isinstance(v.ty, tirx.BufferType)]
        scalars = {v: None for v in free if not isinstance(v.ty, tirx.BufferType)}
        for extent in [d for b in buffers for d in b.shape]:
            scalars |= dict.fromkeys(tirx.analysis.undefined_vars(extent))
        pointers = [tirx.Var(b.name, b.data.ty) for b in buffers]
        views = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
        root = SBlock([], [], [], "root", tirx.SeqStmt([*views, code]))
        body = [SBlockRealize([], True, root), tirx.Return(tirx.const(0, "int32"))]
        function = tirx.PrimFunc([*pointers, *scalars], tirx.SeqStmt(body), PrimType("int32"))
        attrs = {SUBROUTINE: name, "tirx.is_scheduled": True, "tirx.noalias": True}
        return Extracted(renew_defs(function.with_attrs(attrs)), buffers, list(scalars))

    def call(
        self, subroutine: GlobalVar, views: Mapping[tirx.Var, Any], numbers: Mapping[tirx.Var, int]
    ) -> tirx.Stmt:
        """What takes the place of the code.

        `views` are the buffers declared, with their memory, `numbers` what is known of scalars.

        TVM may shrink a buffer whose address alone is taken, hence a declaration for it; it loses
        buffers with variables in their shape, hence what they are views of; and it takes memory
        that is last read by the call for memory first written by it, hence the uses behind it.
        """
        memory = [_viewed(b, views) for b in self.buffers]
        buffers = [tirx.decl_buffer(m.shape, m.dtype, m.name) for m in memory]
        declared = [tirx.DeclBuffer(b, data=m.data) for b, m in zip(buffers, memory, strict=True)]
        addresses = [tirx.address_of(b[(0,) * len(b.shape)]) for b in buffers]
        scalars = [tirx.const(numbers[v], "int32") if v in numbers else v for v in self.scalars]
        call = checked_call(subroutine, [*addresses, *scalars])
        return tirx.SeqStmt([*declared, call, *map(tirx.Evaluate, addresses)])


def _viewed(buffer: tirx.Var, views: Mapping[tirx.Var, Any]) -> tirx.Var:
    """The buffer of known shape that one of unknown shape is a view of, or `buffer` itself."""
    while any(not isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        (buffer,) = views[buffer].args  # `data` of another
    return buffer


def subroutines(mod: IRModule) -> dict[GlobalVar, tirx.PrimFunc]:
    """The subroutines of a module."""
    return {
        var: func
        for var, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and SUBROUTINE in (func.attrs or {})
    }


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
