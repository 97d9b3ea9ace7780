"""A run of kernels is one call, and computes the same."""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tvm_probq.build.compile import build
from tvm_probq.build.memory import peak_activation_bytes
from tvm_probq.errors import KernelError
from tvm_probq.kernels.embedded import Embedded
from tvm_probq.kernels.gate import assembly, functions_of
from tvm_probq.passes.lower_to_aot import LowerToAot
from tvm_probq.passes.pipeline import build_passes, kernel_passes
from tvm_probq.simulator.interpreter import Simulator

MODES = ("static", "dynamic", "predicted")
RNG = np.random.default_rng(0)


def before_aot(mod: Any, target: Any) -> Any:
    """The module as `LowerToAot` meets it."""
    passes = build_passes(target, Path())
    names = [p.info.name for p in passes]
    return tvm.transform.Sequential(passes[: names.index("probq.LowerToAot")])(mod)


def calls(mod: Any) -> list[str]:
    """Names of the PrimFuncs that ``main`` calls."""
    return re.findall(r"R\.call_tir(?:_inplace)?\((?:cls\.)?(\w+)", mod["main"].script())


def outputs_of(executable: Any, *inputs: Any) -> list[Any]:
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    result = main(*map(tvm.runtime.tensor, inputs))
    many = not isinstance(result, tvm.runtime.Tensor)
    return [r.numpy() for r in result] if many else [result.numpy()]


def check_equal(mod: Any, target: Any, *inputs: Any) -> None:
    """Ahead-of-time or call by call, the results are the same."""
    pairs = [outputs_of(build(mod, target, ahead_of_time=aot), *inputs) for aot in (True, False)]
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", MODES)
def test_a_network_is_one_call(integer_net: Any, target: Any, mode: str, tmp_path: Path) -> None:
    integer = integer_net(mode=mode)
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer)
    after = LowerToAot(tmp_path)(before_aot(lowered, target))
    relax.analysis.well_formed(after)
    assert calls(after) == ["run"]
    x = RNG.normal(size=[int(d) for d in integer["main"].params[0].ty.shape]).astype("float32")
    found = outputs_of(build(lowered, target), x)
    for a, b in zip(found, outputs_of(build(lowered, target, ahead_of_time=False), x), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found[0], Simulator(integer)(x))


def test_the_arena_is_about_as_large_as_what_lives(
    integer_net: Any, target: Any, tmp_path: Path
) -> None:
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer_net(mode="predicted"))
    after = LowerToAot(tmp_path)(before_aot(lowered, target))
    arena = int(after["run"].params[-1].shape[0])
    assert arena <= 1.2 * peak_activation_bytes(lowered)


def test_constants_are_part_of_the_code(integer_net: Any, target: Any) -> None:
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer_net(mode="predicted"))
    tensor = re.compile(r" \[\d+(, \d+)*\]")  # in the constant pool
    assert tensor.search(build(lowered, target, ahead_of_time=False).stats())
    executable = build(lowered, target)
    assert not tensor.search(executable.stats())
    sections = functions_of(assembly(executable))
    assert sum(bool(re.fullmatch(r"probq_constants_\w+_data", name)) for name in sections) == 1


def test_every_byte_comes_back(tmp_path: Path) -> None:
    memory = RNG.permutation(np.arange(4096) % 256).astype("uint8")
    constants = Embedded.write(memory, tmp_path)
    again = Embedded.write(memory, tmp_path)
    assert len({constants.symbol, again.symbol}) == len({constants.path, again.path}) == 2
    out = tvm.tirx.decl_buffer(memory.shape, "uint8", "out")
    i = tvm.tirx.Var("i", "int32")
    copy = tvm.tirx.BufferStore(out, constants.buffer[i], [i])
    extent = tvm.tirx.const(len(memory), "int32")
    zero = tvm.tirx.const(0, "int32")
    loop = tvm.tirx.For(i, zero, extent, tvm.tirx.ForKind.SERIAL, copy)
    func = tvm.tirx.PrimFunc([out], constants.around(loop)).with_attr("global_symbol", "main")
    found = tvm.runtime.tensor(np.zeros_like(memory))
    tvm.tirx.build(func, target="llvm")["main"](found)
    np.testing.assert_array_equal(found.numpy(), memory)


def test_kernels_keep_functions_of_their_own(integer_net: Any, target: Any) -> None:
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer_net(mode="static"))
    sections = functions_of(assembly(build(lowered, target)))
    layers = [v.name_hint for v, f in lowered.functions_items() if "probq.instruction" in f.attrs]
    assert layers
    assert all(any(f"{name}_compute_" in s for s in sections) for name in layers)


@I.ir_module
class Calls:
    """Two runs with something else between them, a view, and several results."""

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((2, 8), "float32"), y: T.Buffer((2, 8), "float32")):
        for i, j in T.grid(2, 8):
            with T.sblock("y"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = x[vi, vj] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def add(
        a: T.Buffer((2, 8), "float32"), b: T.Buffer((2, 8), "float32"),
        y: T.Buffer((2, 8), "float32"), z: T.Buffer((2, 8), "float32"),
    ):  # fmt: skip
        for i, j in T.grid(2, 8):
            with T.sblock("y"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = a[vi, vj] + b[vi, vj]
                z[vi, vj] = a[vi, vj] - b[vi, vj]

    @T.prim_func(private=True, s_tir=True)
    def negate_inplace(x: T.Buffer((2, 8), "float32")):
        for i, j in T.grid(2, 8):
            with T.sblock("x"):
                vi, vj = T.axis.remap("SS", [i, j])
                x[vi, vj] = T.float32(0) - x[vi, vj]

    @R.function
    def main(
        x: R.Tensor((2, 8), "float32"),
    ) -> R.Tuple(
        R.Tensor((16,), "float32"), R.Tensor((2, 8), "float32"), R.Tensor((2, 8), "float32")
    ):
        cls = Calls
        with R.dataflow():
            a = R.call_tir(cls.double, (x,), out_ty=R.Tensor((2, 8), "float32"))
            b = R.call_tir(cls.double, (a,), out_ty=R.Tensor((2, 8), "float32"))
            flat = R.reshape(b, (16,))
            c = R.call_dps_packed("test.negate", (b,), out_ty=R.Tensor((2, 8), "float32"))
            both = R.call_tir(
                cls.add, (c, a), out_ty=[R.Tensor((2, 8), "float32"), R.Tensor((2, 8), "float32")]
            )
            total = both[0]
            less = both[1]
            d = R.call_tir(cls.double, (less,), out_ty=R.Tensor((2, 8), "float32"))
            R.output(flat, total, d)
        return (flat, total, d)


@tvm.register_global_func("test.negate", override=True)
def _negate(x: Any, y: Any) -> None:
    y.copyfrom(-x.numpy())


def test_a_run_ends_at_other_calls(target: Any, tmp_path: Path) -> None:
    after = LowerToAot(tmp_path)(Calls)
    relax.analysis.well_formed(after)
    text = after["main"].script()
    assert text.index("run") < text.index("test.negate") < text.index("run1")
    x = RNG.normal(size=(2, 8)).astype("float32")
    flat, total, d = outputs_of(build(Calls, target), x)
    np.testing.assert_array_equal(flat, (4 * x).reshape(-1))
    np.testing.assert_array_equal(total, -4 * x + 2 * x)
    np.testing.assert_array_equal(d, 2 * (-4 * x - 2 * x))
    check_equal(Calls, target, x)


def test_one_kernel_is_left_alone(target: Any, tmp_path: Path) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 8), "float32"))
    with builder.function("main", [x]):
        double = builder.add_func(Calls["double"], "double")
        with builder.dataflow():
            y = builder.emit_output(relax.op.call_tir(double, [x], out_ty=x.ty))
        builder.emit_func_output(y)
    mod = builder.finalize()
    tvm.ir.assert_structural_equal(LowerToAot(tmp_path)(mod), mod)


def test_unknown_shapes_are_left_alone(tmp_path: Path) -> None:
    n = tvm.tirx.Var("n", "int64")
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((n, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_te(lambda v: tvm.te.compute(v.shape, lambda *i: v(*i) * 2), x)
            y = builder.emit_te(lambda v: tvm.te.compute(v.shape, lambda *i: v(*i) + 1), y)
            y = builder.emit_output(y)
        builder.emit_func_output(y)
    mod = builder.finalize()
    tvm.ir.assert_structural_equal(LowerToAot(tmp_path)(mod), mod)


def test_unknown_offsets_are_left_alone(target: Any) -> None:
    x, indices, updates = (
        relax.Var(n, relax.TensorType(s, t))
        for n, s, t in (("x", (4, 3), "float32"), ("i", (2, 1), "int64"), ("u", (2, 3), "float32"))
    )
    builder = relax.BlockBuilder()
    with builder.function("main", [x, indices, updates]):
        with builder.dataflow():
            large = builder.emit(relax.op.abs(builder.emit(relax.op.exp(x))))
            y = builder.emit(relax.op.scatter_nd(large, indices, updates))
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    mod = builder.finalize()
    values = RNG.normal(size=(4, 3)).astype(np.float32), np.array([[3], [0]], np.int64)
    check_equal(mod, target, *values, RNG.normal(size=(2, 3)).astype(np.float32))


def test_what_comes_from_outside_is_not_overwritten(target: Any, tmp_path: Path) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 8), "float32"))
    with builder.function("main", [x]):
        double = builder.add_func(Calls["double"], "double")
        negate = builder.add_func(Calls["negate_inplace"], "negate_inplace")
        with builder.dataflow():
            a = builder.emit(relax.op.call_tir(double, [x], out_ty=x.ty))
            b = builder.emit(relax.op.call_dps_packed("test.negate", [a], out_ty=x.ty))
            c = builder.emit(relax.op.call_tir_inplace(negate, [b], [0], [x.ty]))
            d = builder.emit(relax.op.call_tir(double, [c], out_ty=x.ty))
            e = builder.emit_output(relax.op.call_tir(double, [d], out_ty=x.ty))
        builder.emit_func_output(e)
    mod = builder.finalize()
    after = LowerToAot(tmp_path)(mod)["main"].script()
    assert after.index("call_tir_inplace") < after.index("run")
    x_value = RNG.normal(size=(2, 8)).astype("float32")
    check_equal(mod, target, x_value)


def test_no_space_for_the_constants(
    integer_net: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    lowered = tvm.transform.Sequential(kernel_passes(target))(integer_net(mode="static"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(KernelError, match=r"cannot be written .*No space left .*TMPDIR"):
            build(lowered, target)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(KernelError, match="no place for what the code generator reads"):
        build(lowered, target)
