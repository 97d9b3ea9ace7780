"""Read the machine's clock between kernels, so that one run tells the time of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import Call, IRModule
from tvm.s_tir import SBlock, SBlockRealize

from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.memory import SHARING
from tvm_probq.kernels.calls import KERNEL_CALLS
from tvm_probq.kernels.small.machine import is_arm

CYCLES = "llvm.readcyclecounter"
MONOTONIC = 1  # CLOCK_MONOTONIC of Linux
NS_PER_S = 10**9
OPAQUE = 8


@tvm.transform.module_pass(opt_level=0, name="probq.InsertTicks")
class InsertTicks:
    """Return the clock's reading before the first, between any two, and behind the last kernel.

    Before::

        a = R.call_tir(cls.layer, (x, c1), out_ty=...)
        b = R.call_tir(cls.layer1, (a, c2), out_ty=...)
        return b

    After::

        t = R.call_tir(cls.tick, (), out_ty=R.Tensor((3,), dtype="int64"))
        a = R.call_tir(cls.layer, (x, c1), out_ty=...)
        t1 = R.call_tir_inplace(cls.tick1, (t,), out_ty=..., inplace_indices=[0])
        b = R.call_tir(cls.layer1, (a, c2), out_ty=...)
        t2 = R.call_tir_inplace(cls.tick2, (t1,), out_ty=..., inplace_indices=[0])
        return b, t2

    Where something else than a kernel is called, a tensor of ticks ends and the next begins.
    Holds before: `relax.transform.FuseTIR`, and `LowerToAot` follows.

    Parameters
    ----------
    target : tvm.target.Target
        Its architecture decides what is read: on x86 a counter of constant rate, which takes
        nanoseconds; on 64-bit ARM, whose counters LLVM does not read for programs, the system's
        monotonic clock.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.reading = _clock if is_arm(target) else _cycles

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        main, builder = mod["main"], relax.BlockBuilder(mod)
        ticks = _Ticks(builder, self.reading)
        blocks = [_ticked(ticks, block) for block in main.body.blocks]
        fields, unpacked = _fields(builder, main.body.body)
        body = builder.normalize(relax.Tuple([*fields, *ticks.done]))
        changed = relax.Function(
            main.params, relax.SeqExpr([*blocks, unpacked], body), body.ty, main.is_pure, main.attrs
        )
        builder.update_func(mod.get_global_var("main"), changed)
        return relax.transform.Normalize()(builder.get())


def kernel_runs(mod: IRModule) -> list[list[Any]]:
    """The kernel calls of ``main`` in order, those with nothing but views between them together.

    One list for each tensor of ticks that `InsertTicks` makes of the same module.
    """
    runs: list[list[Any]] = [[]]
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            if is_call(binding.value, *KERNEL_CALLS):
                runs[-1].append(binding.value)
            elif _interrupts(binding.value):
                runs.append([])
        runs.append([])
    return [run for run in runs if run]


@dataclass
class _Ticks:
    """The tensors of ticks.

    Attributes
    ----------
    done : list of relax.Var
        The finished ones.
    """

    builder: relax.BlockBuilder
    reading: Callable[[], tuple[list[Any], Any]]
    done: list[Any] = field(default_factory=list)

    def around(self, calls: list[Any]) -> list[Any]:
        """Bindings of kernels and views with ticks before, between and behind the kernels."""
        count = sum(is_call(b.value, *KERNEL_CALLS) for b in calls)
        if not count:
            return calls
        ty = relax.TensorType((count + 1,), "int64")
        found: list[Any] = []
        current, index = None, 0
        for binding in calls:
            if current is None and is_call(binding.value, *KERNEL_CALLS):
                current = self._tick(found, current, index, ty, last=False)
            found.append(binding)
            if is_call(binding.value, *KERNEL_CALLS):
                index += 1
                current = self._tick(found, current, index, ty, last=index == count)
        self.done.append(current)
        return found

    def _tick(self, found: list[Any], before: Any, index: int, ty: Any, *, last: bool) -> Any:
        name = self.builder.add_func(_tick(self.reading, index, int(ty.shape.values[0])), "tick")
        if before is None:
            call = relax.op.call_tir(name, [], out_ty=ty)
        else:
            call = relax.op.call_tir_inplace(name, [before], [0], [ty])
        call = self.builder.normalize(call)
        var = (relax.Var if last else relax.DataflowVar)("ticks", call.ty)
        found.append(relax.VarBinding(var, call))
        return var


def _ticked(ticks: _Ticks, block: Any) -> Any:
    pending: list[Any] = []
    bindings: list[Any] = []
    for binding in block.bindings:
        if _interrupts(binding.value):
            bindings += [*ticks.around(pending), binding]
            pending = []
        else:
            pending.append(binding)
    bindings += ticks.around(pending)
    return type(block)(bindings)


def _fields(builder: relax.BlockBuilder, results: Any) -> tuple[list[Any], Any]:
    """Each of a function's results, and a block that binds those that are fields of a tuple."""
    if isinstance(results, relax.Tuple):
        return list(results.fields), relax.BindingBlock([])
    if not isinstance(results.ty, relax.TupleType):
        return [results], relax.BindingBlock([])
    fields = [relax.Var("result", ty) for ty in results.ty.fields]
    items = [relax.TupleGetItem(results, i) for i in range(len(fields))]
    bindings = [relax.VarBinding(v, item) for v, item in zip(fields, items, strict=True)]
    return fields, relax.BindingBlock(bindings)


def _interrupts(value: Any) -> bool:
    """Whether a binding's value takes time of its own without being a kernel's call."""
    return isinstance(value, Call) and not is_call(value, *KERNEL_CALLS, *SHARING)


def _tick(reading: Callable[[], tuple[list[Any], Any]], index: int, count: int) -> tirx.PrimFunc:
    """A kernel that writes a reading to one element of its tensor."""
    ticks = tirx.decl_buffer((count,), "int64", "ticks")
    before, value = reading()
    store = tirx.BufferStore(ticks, value, [index])
    inside = tirx.SeqStmt([*before, store]) if before else store
    body = SBlockRealize([], True, SBlock([], [], [], "root", inside))
    attrs = {"tirx.is_scheduled": True, "tirx.noalias": True, "op_pattern": OPAQUE}
    return tirx.PrimFunc([ticks], body).with_attrs(attrs)


def _cycles() -> tuple[list[Any], Any]:
    """Nothing to do before, and the processor's counter."""
    return [], tirx.call_llvm_intrin("int64", CYCLES)


def _clock() -> tuple[list[Any], Any]:
    """Statements that ask the system's clock, and its nanoseconds."""
    spec = tirx.decl_buffer((2,), "int64", "spec")  # struct timespec of 64-bit Linux
    ask = tirx.call_extern("int32", "clock_gettime", MONOTONIC, tirx.address_of(spec[0]))
    value = spec[0] * tirx.const(NS_PER_S, "int64") + spec[1]
    return [tirx.AllocBuffer(spec), tirx.Evaluate(ask)], value
