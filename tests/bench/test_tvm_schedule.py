"""TVM's float kernels: register tiles, and that every rule keeps the meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from tvm_probq.bench.peers.tvm_fp32 import compile_kernels, faster
from tvm_probq.bench.peers.tvm_graph import NEON, WIDE, Blocking, Registers, float_kernels
from tvm_probq.bench.peers.tvm_schedule import SCHEDULED, schedule_all, target_of
from tvm_probq.frontend.onnx import Model
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.gate import assembly
from tvm_probq.target.profile import load_profile


@pytest.fixture(scope="module")
def target() -> Any:
    return target_of(load_profile("x86-avx2").target(), 1)


@pytest.mark.parametrize("registers", [WIDE, NEON], ids=["wide", "neon"])
@pytest.mark.parametrize(("columns", "channels"), [(56, 64), (7, 24), (1, 1000), (13, 3), (14, 40)])
def test_a_register_tile_divides_the_layer(
    columns: int, channels: int, registers: Registers
) -> None:
    tile = Blocking.of(columns, channels, registers)
    assert columns % tile.columns == 0
    assert channels % tile.channels == 0
    assert tile.channels % tile.lanes == 0
    assert tile.columns * tile.channels // tile.lanes <= registers.accumulators
    assert tile.lanes in (*registers.lanes, 1)


def test_large_layers_get_large_tiles() -> None:
    assert Blocking.of(56, 64) == Blocking(7, 32, 16)
    assert Blocking.of(56, 64, NEON) == Blocking(4, 16, 4)


def test_every_kernel_is_scheduled_and_the_result_is_the_float_models(
    model: Model, x: Any, expected: Any, target: Any
) -> None:
    mod, scheduled, total = schedule_all(float_kernels(model.mod))
    kernels = [f for f in mod.functions.values() if isinstance(f, tirx.PrimFunc)]
    assert scheduled == total == len(kernels)
    executable = compile_kernels(mod, target)
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    assert np.allclose(
        (result if hasattr(result, "numpy") else result[0]).numpy(), expected, atol=1e-4
    )
    assert count_instruction(assembly(executable), "vfmadd231ps") > 0


def test_a_scheduled_kernel_is_left_alone(model: Model) -> None:
    mod, _, _ = schedule_all(float_kernels(model.mod))
    again, scheduled, total = schedule_all(mod)
    assert (scheduled, total) == (0, 0)
    tvm.ir.assert_structural_equal(again, mod)
    assert all(SCHEDULED in f.attrs for f in mod.functions.values() if isinstance(f, tirx.PrimFunc))


def test_a_kernel_that_no_rule_fits_keeps_its_loops() -> None:
    from tvm.script import tirx as T

    text = """
@T.prim_func
def main(A: T.Buffer((4,), "float32"), B: T.Buffer((4,), "float32")):
    B[0] = A[0]
"""
    func = tvm.script.from_source(text, extra_vars={"T": T})
    mod, scheduled, total = schedule_all(tvm.IRModule({"main": func}))
    assert (scheduled, total) == (0, 1)
    assert SCHEDULED not in (mod["main"].attrs or {})


def test_the_faster_kernel_of_two_is_taken(
    model: Model, x: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm_probq.bench import kernels

    mod = float_kernels(model.mod)
    default, _, _ = schedule_all(mod)
    names = sorted(
        str(v.name_hint) for v, f in mod.functions_items() if isinstance(f, tirx.PrimFunc)
    )
    figures = iter([dict.fromkeys(names, 2.0) | {names[0]: 1.0}, dict.fromkeys(names, 1.5)])
    monkeypatch.setattr(
        kernels,
        "kernel_times",
        lambda *_: [kernels.KernelTime(n, ms) for n, ms in next(figures).items()],
    )
    best, taken = faster(mod, default, target, x)
    assert taken == 1
    tvm.ir.assert_structural_equal(best[names[0]], mod[names[0]])
    tvm.ir.assert_structural_equal(best[names[1]], default[names[1]])
