"""The constants of a kernel are one argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq import ops
from tvm_probq.build.compile import build
from tvm_probq.build.memory import parameter_bytes
from tvm_probq.ir.expressions import constant_value, is_constant, shape_of
from tvm_probq.kernels.arena import ALIGNMENT
from tvm_probq.passes.fuse_predictions import FusePredictions
from tvm_probq.passes.group_predictions import GroupPredictions
from tvm_probq.passes.lower_layers import LowerLayers
from tvm_probq.passes.pack_constants import PackConstants
from tvm_probq.passes.pipeline import kernel_passes, quantize_passes
from tvm_probq.passes.reuse_residuals import ReuseResiduals
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator

CHANGE = PackConstants()
MODES = ("static", "dynamic", "predicted")


@pytest.fixture(scope="module")
def lowered(integer_net: Any, target: Any) -> Callable[..., Any]:
    """The function that gives the network after the passes that come first."""
    order = [FusePredictions(target), LowerLayers(target), GroupPredictions()]
    passes = tvm.transform.Sequential(order)
    return lambda **options: passes(integer_net(**options))


def constants(call: Any) -> list[Any]:
    return [constant_value(a) for a in call.args[1] if is_constant(a)]


@pytest.mark.parametrize("mode", MODES)
def test_a_kernel_has_one_constant(mode: str, lowered: Any, kernels_of: Any) -> None:
    before = lowered(mode=mode)
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    tvm.ir.assert_structural_equal(CHANGE(after), after)
    assert all(len(constants(call)) <= 1 for call, _ in kernels_of(after))
    padding = len(kernels_of(after)) * 16 * ALIGNMENT
    assert parameter_bytes(before) <= parameter_bytes(after) <= parameter_bytes(before) + padding


def test_constants_lie_side_by_side(lowered: Any, kernels_of: Any) -> None:
    def layers(mod: Any) -> list[Any]:
        return [(c, f) for c, f in kernels_of(mod) if "probq.instruction" in f.attrs]

    before = lowered(mode="static")
    pairs = zip(layers(before), layers(CHANGE(before)), strict=True)
    for (old, kernel), (new, packed) in pairs:
        (memory,) = constants(new)
        start = 0
        for array in constants(old):
            found = memory[start : start + array.nbytes].view(array.dtype)
            np.testing.assert_array_equal(found, array.reshape(-1))
            start += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        assert start == memory.nbytes
        assert len(packed.params) == len(kernel.params) - len(constants(old)) + 1
        for name in ("probq.workspace_bytes", "probq.scratch_bytes", "probq.instruction"):
            assert packed.attrs[name] == kernel.attrs[name]


def test_equal_layers_still_share_a_kernel(
    onnx_net: Any, imported: Any, calibrated: Any, target: Any, kernels_of: Any
) -> None:
    net = onnx_net(8, 6, 6)
    x = "x"
    for _ in range(3):
        x = net("Relu", net.conv(x, 8, 8))
    mod = imported(net, steps=None)
    passes = [*quantize_passes(plan_of("w8a8s"), calibrated(mod)), LowerLayers(target)]
    before = tvm.transform.Sequential(passes)(mod)
    functions = [func for _, func in kernels_of(CHANGE(before))]
    assert functions[0].same_as(functions[1])


def test_a_residual_is_still_known(lowered: Any, kernels_of: Any) -> None:
    for mode in MODES[::2]:
        calls = [call for call, _ in kernels_of(ReuseResiduals()(CHANGE(lowered(mode=mode))))]
        (inplace,) = [c for c in calls if c.op.name == "relax.call_tir_inplace"]
        index = [int(i) for i in inplace.attrs.inplace_indices][-1]
        assert shape_of(inplace.args[1][index]) == (1, 8, 8, 8)


def test_operators_with_several_constants_become_kernels(calls_of: Any) -> None:
    def make(constant_range: bool) -> Any:
        x = relax.Var("x", relax.TensorType((1, 2, 2, 4), "uint8"))
        p = relax.Var("p", relax.TensorType((1, 3, 1), "float32"))
        fixed = relax.const(np.array([[[0.1], [3.0], [255.0]]], np.float32))
        builder = relax.BlockBuilder()
        with builder.function("main", [x, p]):
            with builder.dataflow():
                out = builder.emit_output(ops.rescale(x, fixed if constant_range else p, fixed))
            builder.emit_func_output(out)
        return builder.finalize()

    assert calls_of(CHANGE(make(True))) == ["call_tir"]
    assert calls_of(CHANGE(make(False))) == ["probq.rescale"]


def test_a_float_module_is_left_alone(annotated_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, annotated_net[0])


@pytest.mark.parametrize("options", [{"mode": mode} for mode in MODES] + [{"per_channel": True}])
def test_the_numbers_stay(options: dict[str, Any], integer_net: Any, target: Any) -> None:
    integer = integer_net("w4a8", **options)
    executable = build(tvm.transform.Sequential(kernel_passes(target))(integer), target)
    x = np.random.default_rng(5).normal(size=(1, 3, 8, 8)).astype(np.float32)
    found = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    np.testing.assert_array_equal(found.numpy(), Simulator(integer)(x))
