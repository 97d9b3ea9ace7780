"""What the code of a small kernel does with memory, before it is shared out among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, StringImm
from tvm.ir.expr import TensorLoad

from tvm_probq.errors import KernelError
from tvm_probq.kernels.small.emit import number_behind

OWN, SAME, SHARED = "own", "same", "shared"
BLOCK_CALL = "probq::block_"  # device code for all threads of a block: inputs, the result, sample
PRIVATE_ELEMENTS = 64  # of an array that every thread keeps a copy of


@dataclass(frozen=True)
class Access:
    """A read or a write of a buffer; `buffer` is what a view is of.

    Attributes
    ----------
    buffer : tirx.Var
        Scratch memory, or a parameter.
    writes : bool
        Whether it is written.
    kind : str
        `OWN` for the vector from the start of a row, of which each lane has its own element; `SAME`
        for one element; `SHARED` for other vectors.
    """

    buffer: Any
    writes: bool
    kind: str


@dataclass
class Memory:
    """All buffers of a kernel.

    Attributes
    ----------
    params : list of tirx.Var
        The kernel's parameters.
    views : dict
        By view, the buffer it is of.
    numbers : dict
        By variable, its value, where that is known.
    lanes : int
        Of the widest vector.
    places : dict
        By scratch buffer, where its elements go: each to the thread of its lane (`OWN`), to every
        thread (`SAME`), or to memory that the threads share.
    both : set
        Parameters that are read and written.
    """

    params: list[Any]
    views: dict[Any, Any] = field(default_factory=dict)
    numbers: dict[Any, int] = field(default_factory=dict)
    lanes: int = 1
    places: dict[Any, str] = field(default_factory=dict)
    both: set[Any] = field(default_factory=set)

    @staticmethod
    def of(kernel: tirx.PrimFunc) -> Memory:
        """Find out."""
        memory = Memory(list(kernel.params))
        memory._walk(kernel.body)
        return memory

    def base(self, buffer: Any) -> Any:
        """The buffer behind views."""
        while buffer in self.views:
            buffer = self.views[buffer]
        return buffer

    def extent(self, value: Any) -> int | None:
        """An extent as a number, None where it is none."""
        if isinstance(value, int | tirx.IntImm):
            return int(value)
        if value in self.numbers:
            return self.numbers[value]
        if not hasattr(value, "a") or not hasattr(value, "b"):
            return None
        a, b = self.extent(value.a), self.extent(value.b)
        return None if a is None or b is None else _fold(type(value), a, b)

    def accesses(self, code: Any) -> Iterator[Access]:
        """The accesses in a statement or an expression."""
        found: list[Access] = []

        def read(load: TensorLoad) -> None:
            found.append(Access(self.base(load.source), False, _kind(load.indices)))

        def written(store: tirx.BufferStore) -> None:
            found.append(Access(self.base(store.buffer), True, _kind(store.indices)))

        def called(call: Call) -> None:
            *inputs, result = block_call(call)[1] or [None]
            found.extend(Access(self.base(b), False, SHARED) for b in inputs)
            found.extend(Access(self.base(b), True, SHARED) for b in [result] if b is not None)

        visits: list[tuple[Any, Callable[[Any], None]]] = [
            (TensorLoad, read), (tirx.BufferStore, written), (Call, called)
        ]  # fmt: skip
        tvm_ffi.structural_walk(code, visits)
        return iter(found)

    def _walk(self, body: Any) -> None:
        scratch: list[Any] = []
        viewed: set[Any] = set()

        def declared(stmt: tirx.DeclBuffer) -> None:
            (self.views[stmt.buffer],) = stmt.data.args
            viewed.add(self.base(stmt.buffer))

        def bound(stmt: tirx.Bind) -> None:
            value = number_behind(stmt.value)
            if value is not None:
                self.numbers[stmt.var] = value

        visits: list[tuple[Any, Callable[[Any], None]]] = [
            (tirx.DeclBuffer, declared),
            (tirx.Bind, bound),
            (tirx.AllocBuffer, lambda stmt: scratch.append(stmt.buffer)),
            (tirx.Ramp, lambda ramp: setattr(self, "lanes", max(self.lanes, int(ramp.lanes)))),
        ]
        tvm_ffi.structural_walk(body, visits)
        used: dict[Any, list[Access]] = {}
        for access in self.accesses(body):
            used.setdefault(access.buffer, []).append(access)
        for buffer in scratch:
            found = used.get(buffer, [])
            self.places[buffer] = SHARED if buffer in viewed else _place(buffer, found)
        self.both = {p for p in self.params if {a.writes for a in used.get(p, [])} == {True, False}}


def block_call(call: Any) -> tuple[str, list[Any], list[Any]]:
    """Name, buffers and other arguments of a call of device code; all empty for other calls."""
    arguments = list(call.args) if isinstance(call, Call) else []
    if not arguments or not isinstance(arguments[0], StringImm):
        return "", [], []
    name = str(arguments[0].value)
    if not name.startswith(BLOCK_CALL):
        return "", [], []
    pointers = [a for a in arguments[1:] if isinstance(a, Call)]
    return name, [p.args[0] for p in pointers], arguments[1 + len(pointers) :]


def _kind(indices: Any) -> str:
    last = indices[-1]
    if not isinstance(last, tirx.Ramp):
        return SAME
    start = isinstance(last.base, tirx.IntImm) and int(last.base) == 0
    return OWN if start and int(last.stride) == 1 else SHARED


def _place(buffer: Any, accesses: list[Access]) -> str:
    kinds = {a.kind for a in accesses}
    elements = 1
    for extent in buffer.shape:
        elements *= int(extent)
    if kinds <= {OWN}:
        return OWN
    return SAME if kinds == {SAME} and elements <= PRIVATE_ELEMENTS else SHARED


def _fold(kind: Any, a: int, b: int) -> int:
    folds: dict[Any, Callable[[int, int], int]] = {
        tirx.Add: lambda a, b: a + b,
        tirx.Sub: lambda a, b: a - b,
        tirx.Mul: lambda a, b: a * b,
        tirx.FloorDiv: lambda a, b: a // b,
        tirx.FloorMod: lambda a, b: a % b,
    }
    if kind not in folds:
        raise KernelError("the extent of a loop has no form for CUDA", why=kind.__name__)
    return folds[kind](a, b)
