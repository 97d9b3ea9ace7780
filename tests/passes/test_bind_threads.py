"""BindThreads."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.ir import assert_structural_equal
from tvm.script import ir as I  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.passes.bind_threads import BindThreads

TARGET = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})


@I.ir_module
class Before:
    @T.prim_func(private=True, s_tir=True)
    def exp(x: T.Buffer((8, 64), "float32"), y: T.Buffer((8, 64), "float32")) -> None:
        for i, j in T.grid(8, 64):
            with T.sblock("exp"):
                a, b = T.axis.remap("SS", [i, j])
                y[a, b] = T.exp(x[a, b])


def threads(mod: tvm.IRModule) -> list[str]:
    return [line for line in mod.script().splitlines() if "threadIdx.x" in line]


def test_loops_get_threads() -> None:
    assert not threads(Before)
    assert len(threads(BindThreads(TARGET)(Before))) == 1


def test_kernels_with_threads_stay() -> None:
    kernel = launch_kernel("copy", [Argument("x", (4,))], "copy", ["x"], (1, 1, 1), 32)
    mod = tvm.IRModule({"copy": kernel})
    assert isinstance(mod["copy"], tirx.PrimFunc)
    assert_structural_equal(BindThreads(TARGET)(mod), mod)


def test_is_idempotent() -> None:
    once = BindThreads(TARGET)(Before)
    assert_structural_equal(BindThreads(TARGET)(once), once)
