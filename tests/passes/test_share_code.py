"""Code that kernels have in common is there once, and computes the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, tirx

from tvm_probq.build.compile import build
from tvm_probq.kernels.small.emit import (
    SHARED,
    Argument,
    build_kernel,
    load,
    number,
    number_behind,
    shared,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.subroutine import as_subroutine, subroutines
from tvm_probq.passes.pipeline import build_passes, kernel_passes, quantize_passes
from tvm_probq.passes.share_code import ShareCode
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator


def adding_kernel(channels: int, term: float = 1.0, batch: int = 1) -> tirx.PrimFunc:
    """Adds a term to each channel, by shared code."""

    def body(n: Any, x: Any, out: Any) -> None:
        count = number(channels)
        rows, results = (view(b, batch, count) for b in (x, out))

        def block(c: Any, lanes: int) -> None:
            terms = tirx.Broadcast(tirx.FloatImm("float32", term), lanes)
            store(results, load(rows, n, c, lanes=lanes) + terms, n, c, lanes=lanes)

        with shared("adding"):
            wide_blocks(count, block)

    arguments = [Argument(name, (batch, channels)) for name in ("x", "out")]
    return build_kernel("add", arguments, batch, body)


def module_of(*kernels: tirx.PrimFunc) -> tvm.IRModule:
    """The kernels as subroutines."""
    names = [f"kernel{i}" for i in range(len(kernels))]
    return tvm.IRModule({n: as_subroutine(k, n) for n, k in zip(names, kernels, strict=True)})


def shared_functions(mod: tvm.IRModule) -> list[str]:
    """Names of the functions that hold shared code."""
    return sorted(v.name_hint for v in subroutines(mod) if v.name_hint.startswith("shared"))


def all_calls(mod: tvm.IRModule) -> list[Any]:
    """The calls of functions from others."""
    found: list[Any] = []

    def note(call: Any) -> None:
        if isinstance(call.op, tvm.ir.GlobalVar):
            found.append(call)

    for function in subroutines(mod).values():
        tvm_ffi.structural_walk(function.body, (tvm.ir.Call, note))
    return found


def calls(mod: tvm.IRModule) -> Counter[str]:
    """How often each function is called from others."""
    return Counter(call.op.name_hint for call in all_calls(mod))


def marks(mod: tvm.IRModule) -> int:
    """How many pieces of code are marked."""
    found = []

    def note(stmt: Any) -> None:
        if stmt.attr_key == SHARED:
            found.append(stmt)

    for function in subroutines(mod).values():
        tvm_ffi.structural_walk(function.body, (tirx.AttrStmt, note))
    return len(found)


def test_sizes_share_one_function() -> None:
    before = module_of(adding_kernel(64), adding_kernel(72), adding_kernel(640))
    assert marks(before) == 3
    after = ShareCode()(before)
    assert marks(after) == 0
    assert shared_functions(after) == ["shared_adding"]
    assert calls(after) == {"shared_adding": 3}
    numbers = [[int(a) for a in c.args if isinstance(a, tirx.IntImm)] for c in all_calls(after)]
    assert numbers == [[64], [72], [640]]


def test_other_code_is_another_function() -> None:
    after = ShareCode()(module_of(adding_kernel(64), adding_kernel(64, term=2.0)))
    assert calls(after) == {"shared_adding": 1, "shared_adding1": 1}


def test_only_a_number_is_taken_for_one() -> None:
    fence = "llvm.arithmetic.fence"
    half, whole = (tirx.FloatImm("float64", v) for v in (0.5, 3.0))
    assert (
        number_behind(tirx.Cast("int32", tirx.call_llvm_pure_intrin("float64", fence, whole))) == 3
    )
    for other in (
        tirx.Cast("int32", tirx.call_llvm_pure_intrin("float64", "llvm.fma", half, half, whole)),
        tirx.Cast("int64", tirx.call_llvm_pure_intrin("float64", fence, whole)),
        tirx.Cast("int32", whole),
        whole,
    ):
        assert number_behind(other) is None


def test_twice_is_once() -> None:
    once = ShareCode()(module_of(adding_kernel(64), adding_kernel(72)))
    tvm.ir.assert_structural_equal(ShareCode()(once), once)


def test_without_marks_nothing_changes(integer_net: Any, target: Any, tmp_path: Path) -> None:
    before = as_met(integer_net(mode="static"), target, tmp_path)
    assert subroutines(before)
    tvm.ir.assert_structural_equal(ShareCode()(before), before)


def as_met(integer: Any, target: Any, folder: Path) -> Any:
    """The module as the pass meets it."""
    passes = [*kernel_passes(target), *build_passes(target, folder)]
    names = [p.info.name for p in passes]
    return tvm.transform.Sequential(passes[: names.index("probq.ShareCode")])(integer)


def test_layers_of_a_network_share_their_predictions(
    integer_net: Any, target: Any, tmp_path: Path
) -> None:
    before = as_met(integer_net(), target, tmp_path)
    after = ShareCode()(before)
    assert marks(after) == 0
    called = calls(after)
    assert sum(called.values()) == marks(before)
    assert len(called) == len(shared_functions(after)) < marks(before)


@pytest.mark.parametrize("surrogate", ["moments", "iid"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_shared_code_equals_the_simulator(
    surrogate: str, per_channel: bool, onnx_net: Any, imported: Any, calibrated: Any, target: Any
) -> None:
    """Widths of each kind of vector, with a residual, a depthwise layer and a matrix product."""
    net = onnx_net(3, 9, 9)
    x = net("Relu", net.conv("x", 3, 20))
    x = net("HardSwish", net.conv(x, 20, 72, 1))
    x = net("Relu", net.conv(x, 72, 72, group=72))
    y = net.conv(x, 72, 300, 1)
    y = net("Relu", net("Add", net.conv(net("Relu", y), 300, 300, 1), y))
    net.gemm(net("Flatten", net("GlobalAveragePool", y)), 300, 10)
    record = calibrated(imported(net, steps=None))
    plan = plan_of("w8a8", surrogate=surrogate, per_channel=per_channel)
    mod = imported(net, steps=None, batch=2)
    integer = tvm.transform.Sequential(quantize_passes(plan, record))(mod)
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer)
    data = np.random.default_rng(2).normal(size=(2, 3, 9, 9)).astype(np.float32)
    main = relax.VirtualMachine(build(lowered, target), tvm.cpu())["main"]
    found = main(tvm.runtime.tensor(data)).numpy()
    np.testing.assert_array_equal(found, Simulator(integer)(data))
