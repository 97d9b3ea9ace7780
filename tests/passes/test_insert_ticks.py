"""Ticks between kernels."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tvm_probq.ir.expressions import is_call
from tvm_probq.passes.insert_ticks import InsertTicks, kernel_runs

X86 = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
ARM = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"})


@I.ir_module
class Module:
    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")) -> None:
        for i in range(4):
            y[i] = x[i] * T.float32(2.0)

    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Module
        with R.dataflow():
            a = R.call_tir(cls.double, (x,), out_ty=R.Tensor((4,), dtype="float32"))
            b = R.reshape(a, R.shape([4]))
            c = R.call_tir(cls.double, (b,), out_ty=R.Tensor((4,), dtype="float32"))
            R.output(c)
        return c


def called(mod: Any) -> list[str]:
    values = [b.value for block in mod["main"].body.blocks for b in block.bindings]
    return [v.args[0].name_hint.rstrip("0123456789") for v in values
            if is_call(v, "call_tir", "call_tir_inplace")]  # fmt: skip


def test_before_between_and_behind() -> None:
    found = InsertTicks(X86)(Module)
    tvm.relax.analysis.well_formed(found)
    assert called(found) == ["tick", "double", "tick", "double", "tick"]
    fields = found["main"].body.body.fields
    assert [str(f.ty.dtype) for f in fields] == ["float32", "int64"]
    assert int(fields[1].ty.shape.values[0]) == 3
    assert [len(run) for run in kernel_runs(Module)] == [2]


def test_a_tuple_of_results_is_taken_apart() -> None:
    both = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with both.function("main", [x]):
        with both.dataflow():
            double = both.add_func(Module["double"], "double")
            a = both.emit(relax.op.call_tir(double, [x], out_ty=x.ty))
            out = both.emit_output(relax.Tuple([a, x]))
        both.emit_func_output(out)
    found = InsertTicks(X86)(both.get())
    tvm.relax.analysis.well_formed(found)
    assert len(found["main"].ret_ty.fields) == 3


@pytest.mark.parametrize(("target", "counter"), [(X86, "readcycle"), (ARM, "clock_gettime")])
def test_the_counter_is_the_machine_s(target: Any, counter: str) -> None:
    assert counter in InsertTicks(target)(Module).script()
