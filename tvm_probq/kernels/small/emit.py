"""Writing a PrimFunc statement by statement: arguments, loops over vectors, running registers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.small.machine import wide

VECTOR = 16
UNROLLED = 8
OPAQUE = 8  # op_pattern kOpaque: nothing may be fused into, or around, these kernels
SIZES = (16, 64, 128, 240)  # elements of scratch memory; four bytes each are less than 1024
SHARED = "probq.shared"  # attribute of code that other kernels may have too

Shape = Sequence[Any]
Block = Callable[[Any, int], None]


@dataclass(frozen=True)
class Argument:
    """One buffer argument of a kernel."""

    name: str
    shape: tuple[Any, ...]
    dtype: str = "float32"


def build_kernel(
    name: str, arguments: Sequence[Argument], batch: Any, body: Callable[..., None]
) -> tirx.PrimFunc:
    """Build the kernel that runs ``body(sample, *buffers)`` for every sample of the batch.

    Parameters
    ----------
    name : str
        Name of the function in messages.
    arguments : sequence of Argument
        Inputs, then outputs.
    batch : int or tirx.Var
        Number of samples.
    body : Callable
        Emits the statements for one sample.

    Returns
    -------
    tirx.PrimFunc
        Final: marked as scheduled, and opaque to fusion.
    """
    with IRBuilder() as builder, ir.prim_func(s_tir=True):
        ir.func_name(name)
        buffers = [ir.arg(a.name, ir.buffer(a.shape, a.dtype)) for a in arguments]
        flags = {"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": OPAQUE}
        ir.func_attr({**flags, "probq.kernel": f"probq_{name}"})
        # Relax's passes want a block at the root, though nothing here is scheduled any more.
        with ir.sblock("root"):
            ir.reads([])
            ir.writes([])
            with ir.serial(batch) as sample:
                body(sample, *buffers)
    # The module names its functions: two kernels of one kind must not claim the same symbol.
    return builder.get().without_attr("global_symbol")


class Number(int):
    """An integer that code reads at run time, from a variable; Python reads its value.

    Code that uses the variable alone is the same for every value, so kernels can share it.

    Attributes
    ----------
    variable : Any
        Where code finds it, int32.
    """

    variable: Any

    def __new__(cls, value: int, variable: Any) -> "Number":
        """A number and its variable."""
        made = super().__new__(cls, value)
        made.variable = variable
        return made

    def __mul__(self, other: int) -> "Number":
        """A number too, as is what `-`, `+` and `//` give."""
        return Number(int(self) * other, self.variable * in_code(other))

    def __add__(self, other: int) -> "Number":
        """See `__mul__`."""
        return Number(int(self) + other, self.variable + in_code(other))

    def __sub__(self, other: int) -> "Number":
        """See `__mul__`."""
        return Number(int(self) - other, self.variable - in_code(other))

    def __floordiv__(self, other: int) -> "Number":
        """See `__mul__`."""
        return Number(int(self) // other, tirx.floordiv(self.variable, in_code(other)))


def in_code(value: Any) -> Any:
    """The variable of a number, anything else as it is."""
    return value.variable if isinstance(value, Number) else value


def number(value: int) -> Number:
    """A number whose value LLVM does not know."""
    return Number(value, ir.bind(_hidden(float(value))))


def _hidden(value: float) -> Any:
    """`value` as int32, behind a fence."""
    constant = tirx.FloatImm("float64", value)
    fence = tirx.call_llvm_pure_intrin("float64", "llvm.arithmetic.fence", constant)
    return tirx.Cast("int32", fence)


def number_behind(value: Any) -> int | None:
    """The integer that `number` hid in an expression, None in any other."""
    found: list[float] = []
    tvm_ffi.structural_walk(value, (tirx.FloatImm, lambda imm: found.append(float(imm.value))))
    same = len(found) == 1 and tvm_ffi.structural_equal(value, _hidden(found[0]))
    return int(found[0]) if same else None


def load(buffer: Any, *index: Any, lanes: int = 1) -> Any:
    """Read `lanes` neighbours along the last axis, the first of them at `index`."""
    return tirx.BufferLoad(buffer, _places(index, lanes))


def store(buffer: Any, value: Any, *index: Any, lanes: int = 1) -> None:
    """Write `lanes` neighbours along the last axis."""
    ir.buffer_store(buffer, value, _places(index, lanes))


def let(value: Any) -> Any:
    """Compute `value` once; every expression used twice goes through here.

    TVM's simplifier puts a bound expression back into each place that reads it, which grows
    exponentially with nested selections.  So it goes to memory, which LLVM turns into a register.
    """
    if isinstance(value, tirx.Var | tirx.FloatImm | tirx.IntImm):
        return value
    if isinstance(value, TensorLoad):
        return ir.bind(value)
    lanes = lanes_of(value)
    memory = scratch(str(value.ty.dtype).split("x")[0], lanes)
    store(memory, value, 0, lanes=lanes)
    return load(memory, 0, lanes=lanes)


def view(buffer: Any, *shape: Any) -> Any:
    """The memory of `buffer` under another shape."""
    return ir.decl_buffer([in_code(d) for d in shape], buffer.dtype, data=buffer.data)


def scratch(dtype: str, *shape: int) -> Any:
    """Uninitialised memory inside the kernel; from 1024 bytes on it is not on the stack.

    The scope "local" would never be: TVM takes it from the heap on a CPU.
    """
    if isinstance(shape[0], Number):  # of few sizes, so that more code is alike
        shape = (next((size for size in SIZES if size >= shape[0]), int(shape[0])),)
    return ir.alloc_buffer(shape, dtype, scope="global")


def shared(name: str) -> Any:
    """A frame, ``with shared(name):``, around code that other kernels may have too.

    `passes.share_code.ShareCode` makes one function of all such code that is alike.  It is alike in
    kernels of different sizes if these are numbers, and shapes of buffers are made of them, before
    the frame.
    """
    return ir.attr(tirx.const(0, "int32"), SHARED, name)


def loop(extent: Any) -> Any:
    """A serial loop, to be used as ``with loop(n) as i``.

    LLVM takes a wide vector for one instruction and unrolls nests of known length altogether,
    to kilobytes of spilled code; so a length of some size goes through a fence, which hides it.
    """
    if isinstance(extent, int) and not isinstance(extent, Number) and extent > UNROLLED:
        extent = number(extent)
    return ir.serial(in_code(extent))


def wide_blocks(extent: int, body: Block, widest: int = 0) -> None:
    """Cover `extent` elements by vectors for work that may be done twice.

    The last block may overlap the one before, so that an awkward extent needs no short vectors.
    Blocks are of `widest` elements, by default as the registers of the machine allow.
    """
    widest = widest or wide()
    if isinstance(extent, Number):
        _overlapping_blocks(extent, body, widest)
        return
    lanes = 1 << (min(extent, widest).bit_length() - 1)
    full, rest = divmod(extent, lanes)
    with loop(full) as i:
        body(i * lanes, lanes)
    if rest:
        tail = 1 << (rest - 1).bit_length()
        body(extent - tail, tail)


def _overlapping_blocks(extent: Number, body: Block, widest: int) -> None:
    """`wide_blocks` by the same code for many extents.

    No statement of `body` may read one place of scratch memory and write the same place of another:
    TVM could make one memory of both, and the work would be done twice on its own results.
    """
    lanes = 1 << (min(extent, widest).bit_length() - 1)
    if VECTOR < lanes < widest:
        lanes = VECTOR
    with loop((extent + (lanes - 1)) // lanes) as i:
        body(tirx.min(i * lanes, in_code(extent - lanes)), lanes)


def exact_blocks(extent: int, body: Block, lanes: int = VECTOR) -> None:
    """Cover `extent` elements by vectors, each element once, starts at multiples of the width."""
    full = extent // lanes
    if full:
        with loop(full) as i:
            body(i * lanes, lanes)
    start = full * lanes
    while start < extent:
        lanes //= 2
        if extent - start >= lanes:
            body(start, lanes)
            start += lanes


class Register:
    """A running vector that LLVM keeps in registers."""

    def __init__(self, lanes: int, dtype: str = "float32", start: Any = 0) -> None:
        self.lanes = lanes
        self._buffer = scratch(dtype, lanes)
        self.set(splat(tirx.const(start, dtype), lanes))

    def get(self, lanes: int = 0, at: Any = 0) -> Any:
        """The first `lanes` lanes (all of them by default), or those from `at` on."""
        return load(self._buffer, at, lanes=lanes or self.lanes)

    def set(self, value: Any, lanes: int = 0, at: Any = 0) -> None:
        """Replace the first `lanes` lanes, or those from `at` on."""
        store(self._buffer, value, at, lanes=lanes or self.lanes)


def splat(value: Any, lanes: int) -> Any:
    """`value` in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def lanes_of(value: Any) -> int:
    """Lanes of an expression."""
    return int(value.ty.dtype.lanes)


def _places(index: Sequence[Any], lanes: int) -> list[Any]:
    *outer, last = map(in_code, index)
    return [*outer, last if lanes == 1 else tirx.Ramp(last, 1, lanes)]
