"""Small kernels on a GPU: what a CPU does in the lanes of vectors, threads do here.

A block runs the kernel of a sample.  All its threads follow the same loops; of a vector each has
one lane, of a scalar each its own copy.  Scratch memory that only ever holds lanes is a register of
each thread, other scratch is shared, with barriers between accesses that could meet.  A loop whose
turns write different parts of the result is split among blocks, which repeat what comes before.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.ir import PointerType, PrimType, Range
from tvm.s_tir import SBlock, SBlockRealize

from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda.access import OWN, SAME, SHARED, Memory, block_call
from tvm_probq.kernels.cuda.barriers import Barriers
from tvm_probq.kernels.cuda.lanes import Lanes
from tvm_probq.kernels.cuda.split import MOST_BLOCKS, split_loops
from tvm_probq.kernels.cuda.tiles import SHARED_BYTES, WARP
from tvm_probq.kernels.merge import size_bytes

TYPES = {
    "float32": "float", "int32": "int", "uint8": "unsigned char", "int16": "short",
    "int64": "long long",
}  # fmt: skip
THREAD_INDEX = 1  # of IterVar.ThreadIndex
ALIGNED = 16


class SharedMemoryError(KernelError):
    """A kernel needs more shared memory than a block has."""


def to_threads(
    kernel: tirx.PrimFunc, *, ordered: bool = False, threads: int = WARP
) -> tirx.PrimFunc:
    """A small kernel of a CPU as a kernel of a GPU, with the same parameters and results.

    Parameters
    ----------
    kernel : tirx.PrimFunc
        From :mod:`tvm_probq.kernels.small`.
    ordered : bool, optional
        Whether it writes an element more than once, and the last value counts.
    threads : int, optional
        Of a block, at least: as many as device code that it calls is made for.

    Raises
    ------
    SharedMemoryError
        If it needs more shared memory than a block has.
    KernelError
        If it holds what has no form here.
    """
    samples = kernel.body.block.body
    memory = Memory.of(kernel)
    if ordered:
        memory.both |= set(memory.params)
    made = _Threads(memory, samples, threads)
    body = SBlockRealize([], True, SBlock([], [], [], "root", made.body()))
    return tirx.PrimFunc(kernel.params, body, kernel.ret_type, kernel.attrs)


class _Threads:
    """Rewrites the statements of one kernel."""

    def __init__(self, memory: Memory, samples: tirx.For, threads: int) -> None:
        self._memory, self._samples = memory, samples
        self._threads = max(-(-memory.lanes // WARP) * WARP, threads)
        self._thread = tirx.Var("thread", "int32")
        self._block = tirx.Var("block", "int32")
        self._lanes = Lanes(self._thread, self._threads, self._read)
        shared = {b for b, place in memory.places.items() if place == SHARED}
        self._barriers = Barriers(shared | memory.both)
        self._split = {} if memory.both else split_loops(memory, samples.body)
        self._blocks = min(max(self._split.values(), default=1), MOST_BLOCKS)
        self._buffers: dict[Any, Any] = {}
        self._lanes.values |= {v: tirx.const(n, "int32") for v, n in memory.numbers.items()}
        self._inside = False  # of a loop that is split

    def body(self) -> tirx.Stmt:
        """Everything, with its threads."""
        declared = self._shared_memory()
        inner = _in_order([*declared, *self._visit(self._samples.body)])
        sample = self._samples.loop_var
        count = self._memory.extent(self._samples.extent)
        if count is None:
            raise KernelError("the number of samples must be known for CUDA", fix="fix the batch")
        threads = [("threadIdx.x", self._thread, self._threads), ("blockIdx.y", sample, count)]
        for tag, variable, extent in [*threads, ("blockIdx.x", self._block, self._blocks)]:
            axis = tirx.IterVar(Range(0, extent), variable, THREAD_INDEX, tag)
            inner = tirx.AttrStmt(axis, "thread_extent", tirx.const(extent, "int32"), inner)
        return inner

    def _shared_memory(self) -> list[tirx.Stmt]:
        """Declarations of all shared scratch, side by side in one piece."""
        buffers = [b for b, place in self._memory.places.items() if place == SHARED]
        sizes = [size_bytes([int(d) for d in b.shape], str(b.dtype)) for b in buffers]
        sizes = [-(-size // ALIGNED) * ALIGNED for size in sizes]
        if sum(sizes) > SHARED_BYTES:
            raise SharedMemoryError(
                "a prediction needs more shared memory than a block has",
                why=f"{sum(sizes)} bytes, of {SHARED_BYTES}",
                fix="leave the layer static or dynamic (--mode 'NAME=static')",
            )
        found: list[tirx.Stmt] = []
        for i, buffer in enumerate(buffers):
            kind = str(buffer.dtype)
            pointer = tirx.Var(buffer.name, PointerType(PrimType(kind)))
            name = f"probq::scratch<{TYPES[kind]}, {sum(sizes)}, {sum(sizes[:i])}>"
            found.append(tirx.Bind(pointer, tirx.call_extern(pointer.ty, name)))
            self._buffers[buffer] = tirx.decl_buffer(buffer.shape, kind, buffer.name)
            found.append(tirx.DeclBuffer(self._buffers[buffer], data=pointer))
        return found

    def _read(self, buffer: Any, indices: list[Any]) -> Any:
        return tirx.BufferLoad(self._buffers.get(buffer, buffer), self._place(buffer, indices))

    def _place(self, buffer: Any, indices: list[Any]) -> list[Any]:
        """Indices into a register for one of its lanes, unchanged for other memory."""
        if self._memory.places.get(self._memory.base(buffer)) != OWN:
            return indices
        return [*indices[:-1], tirx.const(0, "int32")]

    def _visit(self, stmt: Any) -> list[tirx.Stmt]:
        if isinstance(stmt, tirx.SeqStmt):
            return [made for part in stmt.seq for made in self._visit(part)]
        if isinstance(stmt, tirx.AttrStmt):
            return self._visit(stmt.body)
        if isinstance(stmt, tirx.AllocBuffer):
            return self._allocated(stmt)
        if isinstance(stmt, tirx.DeclBuffer):
            return self._declared(stmt)
        if isinstance(stmt, tirx.Bind):
            return self._bound(stmt)
        if isinstance(stmt, tirx.BufferStore):
            return self._stored(stmt)
        if isinstance(stmt, tirx.For):
            return self._loop(stmt)
        if isinstance(stmt, tirx.IfThenElse):
            return self._branch(stmt)
        if isinstance(stmt, tirx.Evaluate) and block_call(stmt.value)[0]:
            return self._called(stmt)
        raise KernelError("a kernel has no form for CUDA", why=f"it has a {type(stmt).__name__}")

    def _allocated(self, stmt: tirx.AllocBuffer) -> list[tirx.Stmt]:
        buffer, place = stmt.buffer, self._memory.places[stmt.buffer]
        if place == SHARED:
            return []
        shape = [*buffer.shape[:-1], 1] if place == OWN else buffer.shape
        made = tirx.decl_buffer(shape, str(buffer.dtype), buffer.name, scope="local")
        self._buffers[buffer] = made
        return [tirx.AllocBuffer(made)]

    def _declared(self, stmt: tirx.DeclBuffer) -> list[tirx.Stmt]:
        view, source = stmt.buffer, self._memory.views[stmt.buffer]
        shape = [self._lanes.of(d) for d in view.shape]
        made = tirx.decl_buffer(shape, str(view.dtype), view.name)
        self._buffers[view] = made
        return [tirx.DeclBuffer(made, data=self._buffers.get(source, source).data)]

    def _bound(self, stmt: tirx.Bind) -> list[tirx.Stmt]:
        if stmt.var in self._memory.numbers:
            return []
        before = self._barriers.before(self._memory.accesses(stmt.value))
        value = self._lanes.of(stmt.value)
        made = tirx.Var(stmt.var.name, value.ty)
        self._lanes.values[stmt.var] = made
        return [*before, tirx.Bind(made, value)]

    def _stored(self, stmt: tirx.BufferStore) -> list[tirx.Stmt]:
        before = self._barriers.before(self._memory.accesses(stmt))
        base, lanes = self._memory.base(stmt.buffer), int(stmt.value.ty.dtype.lanes)
        indices = self._place(stmt.buffer, [self._lanes.of(i) for i in stmt.indices])
        buffer = self._buffers.get(stmt.buffer, stmt.buffer)
        made: Any = tirx.BufferStore(buffer, self._lanes.of(stmt.value), indices)
        if self._memory.places.get(base) in (OWN, SAME):
            return [*before, made]
        if lanes < self._threads:
            made = tirx.IfThenElse(self._thread < tirx.const(lanes, "int32"), made, None)
        if base not in self._memory.places and self._blocks > 1 and not self._inside:
            made = tirx.IfThenElse(tirx.EQ(self._block, tirx.const(0, "int32")), made, None)
        return [*before, made]

    def _called(self, stmt: tirx.Evaluate) -> list[tirx.Stmt]:
        before = self._barriers.before(self._memory.accesses(stmt))
        name, buffers, rest = block_call(stmt.value)
        pointers = [self._buffers.get(b, b).data for b in buffers]
        arguments = [*pointers, *(self._lanes.of(a) for a in rest)]
        return [*before, tirx.Evaluate(tirx.call_extern("int32", name, *arguments))]

    def _loop(self, stmt: tirx.For) -> list[tirx.Stmt]:
        self._barriers.again(self._memory.accesses(stmt.body))
        extent = self._memory.extent(stmt.extent)
        if stmt not in self._split or extent is None:
            body = _in_order(self._visit(stmt.body))
            length = self._lanes.of(stmt.extent)
            return [tirx.For(stmt.loop_var, stmt.min, length, tirx.ForKind.SERIAL, body)]
        self._inside = True
        turn = tirx.Var("turn", stmt.loop_var.ty)
        index = tirx.Cast(str(stmt.loop_var.ty.dtype), self._block) + turn * self._blocks
        place = tirx.Bind(stmt.loop_var, index)
        code = _in_order(self._visit(stmt.body))
        self._inside = False
        bounded = tirx.IfThenElse(stmt.loop_var < extent, code, None)
        turns = tirx.const(-(-extent // self._blocks), str(turn.ty.dtype))
        zero = tirx.const(0, str(turn.ty.dtype))
        whole = _in_order([place, bounded])
        return [tirx.For(turn, zero, turns, tirx.ForKind.SERIAL, whole)]

    def _branch(self, stmt: tirx.IfThenElse) -> list[tirx.Stmt]:
        before = self._barriers.before(self._memory.accesses(stmt.condition))
        condition = self._lanes.of(stmt.condition)
        start = set(self._barriers.pending)
        then = _in_order(self._visit(stmt.then_case))
        self._barriers.pending |= start
        if stmt.else_case is not None:
            raise KernelError("a kernel has no form for CUDA", why="it has an else")
        return [*before, tirx.IfThenElse(condition, then, None)]


def _in_order(statements: list[tirx.Stmt]) -> Any:
    """Statements one after the other."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
