"""A kernel and the predictions that it alone waits for are one PrimFunc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq import ops
from tvm_probq.build.compile import build
from tvm_probq.ir.expressions import shape_of
from tvm_probq.kernels.merge import merge_kernels
from tvm_probq.kernels.small.ranges import pool_range_kernel
from tvm_probq.passes.fuse_predictions import FusePredictions
from tvm_probq.passes.group_predictions import GroupPredictions
from tvm_probq.passes.lower_layers import LowerLayers
from tvm_probq.passes.pipeline import kernel_passes, quantize_passes
from tvm_probq.passes.reuse_residuals import ReuseResiduals
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator

CHANGE = GroupPredictions()
IMAGE, QPARAMS = ((2, 4, 4, 8), "uint8"), ((2, 3, 1), "float32")
PREDICTIONS = {f"probq.{kind}" for kind in (
    "observe", "sums", "patch_sums", "surrogate", "correction", "pool_range", "merge_ranges",
)}  # fmt: skip
PREDICTED = [
    {"surrogate": "moments"},
    {"surrogate": "iid"},
    {"surrogate": "iid", "correction": "none"},
    {"per_channel": True},
    {"bits": "4,6"},
]

Body = Callable[[relax.BlockBuilder, Any, Any], Any]


@pytest.fixture(scope="module")
def lowered(integer_net: Any, target: Any) -> Callable[..., Any]:
    """The function that gives the network after the passes that come first."""
    passes = tvm.transform.Sequential([FusePredictions(target), LowerLayers(target)])
    return lambda **options: passes(integer_net(**options))


def by_hand(body: Body) -> Any:
    """A module of codes and their parameters; `body` emits it."""
    params = [relax.Var(name, relax.TensorType(*ty)) for name, ty in (("x", IMAGE), ("p", QPARAMS))]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(body(builder, *params))
        builder.emit_func_output(out)
    return builder.finalize()


def outputs(found: Any) -> list[Any]:
    """The arrays of one output or of several, nested ones too."""
    if isinstance(found, np.ndarray):
        return [found]
    if hasattr(found, "numpy"):
        return [found.numpy()]
    return [array for item in found for array in outputs(item)]


def run(mod: Any, target: Any, *inputs: Any) -> list[Any]:
    """Outputs of a lowered module, compiled."""
    machine = relax.VirtualMachine(build(mod, target), tvm.cpu())
    return outputs(machine["main"](*map(tvm.runtime.tensor, inputs)))


def images() -> list[Any]:
    rng = np.random.default_rng(0)
    qparams = np.array([[[0.1], [7.0], [255.0]], [[0.2], [100.0], [255.0]]], np.float32)
    return [rng.integers(0, 256, IMAGE[0], dtype=np.uint8), qparams]


def check_by_hand(mod: Any, target: Any) -> Any:
    after = CHANGE(mod)
    tvm.relax.analysis.well_formed(after)
    tvm.ir.assert_structural_equal(CHANGE(after), after)
    for grouped, plain in zip(
        run(after, target, *images()), run(mod, target, *images()), strict=True
    ):
        np.testing.assert_array_equal(grouped, plain)
    return after


@pytest.mark.parametrize("options", PREDICTED)
def test_each_layer_is_one_kernel(
    options: dict[str, Any], lowered: Any, calls_of: Any, kernels_of: Any
) -> None:
    before = lowered(**options)
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    assert not PREDICTIONS & set(calls_of(after))
    layers = [f for _, f in kernels_of(before) if "probq.instruction" in f.attrs]
    merged = [f for _, f in kernels_of(after) if "probq.instruction" in f.attrs]
    assert len(merged) == len(layers)
    assert [int(f.attrs["probq.workspace_bytes"]) for f in merged] == [
        int(f.attrs["probq.workspace_bytes"]) for f in layers
    ]


def test_twice_is_once(lowered: Any) -> None:
    once = CHANGE(lowered())
    tvm.ir.assert_structural_equal(CHANGE(once), once)


def test_without_predictions_nothing_changes(integer_net: Any, target: Any, unchanged: Any) -> None:
    unchanged(CHANGE, LowerLayers(target)(integer_net(mode="static")))


def test_a_merged_layer_still_writes_over_its_residual(lowered: Any, kernels_of: Any) -> None:
    calls = [call for call, _ in kernels_of(ReuseResiduals()(CHANGE(lowered())))]
    (inplace,) = [c for c in calls if c.op.name == "relax.call_tir_inplace"]
    index = [int(i) for i in inplace.attrs.inplace_indices][-1]
    assert shape_of(inplace.args[1][index]) == (1, 8, 8, 8)


def test_a_measured_accumulator_is_left_alone(lowered: Any, calls_of: Any) -> None:
    before = lowered(mode="dynamic")
    after = CHANGE(before)
    for kind in ("probq.measure", "probq.requantize"):
        assert calls_of(after).count(kind) == calls_of(before).count(kind) == 5


@pytest.mark.parametrize(
    ("options", "batch"),
    [*((o, 3) for o in [*PREDICTED, {"mode": "dynamic"}]), *((o, 1) for o in PREDICTED[:2])],
)
def test_the_numbers_are_the_simulators(
    options: dict[str, Any], batch: int, onnx_net: Any, imported: Any, calibrated: Any, target: Any
) -> None:
    net = onnx_net(3, 7, 6)
    stem = net("Relu", net.conv("x", 3, 8))
    block = net("Relu", net("Add", net.conv(net("Relu", net.conv(stem, 8, 8)), 8, 8), stem))
    wide = net("Concat", block, net.conv(block, 8, 8, 1), axis=1)
    total = net(
        "Add", net("MaxPool", wide, kernel_shape=[2, 2]), net.conv(wide, 16, 16, 2, pads=[0] * 4)
    )
    net.gemm(net("Flatten", net("GlobalAveragePool", total)), 16, 5)
    mod = imported(net, steps=None, batch=batch)
    plan = plan_of("w4a8", **options)
    integer = tvm.transform.Sequential(quantize_passes(plan, calibrated(mod)))(mod)
    x = np.random.default_rng(3).normal(size=shape_of(mod["main"].params[0])).astype(np.float32)
    x *= np.arange(1, batch + 1, dtype=np.float32).reshape(-1, 1, 1, 1)
    found = run(tvm.transform.Sequential(kernel_passes(target))(integer), target, x)
    for ours, wanted in zip(found, outputs(Simulator(integer)(x)), strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_a_residual_that_the_product_reads_is_not_written_over(
    onnx_net: Any, imported: Any, calibrated: Any, target: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 6, 6)
    x = net("Relu", net.conv("x", 3, 8))
    net.conv(net("Relu", net("Add", net.conv(x, 8, 8), x)), 8, 4)
    mod = imported(net, steps=None)
    passes = [*quantize_passes(plan_of("w8a8"), calibrated(mod)), *kernel_passes(target)]
    assert "call_tir_inplace" not in calls_of(tvm.transform.Sequential(passes)(mod))


def test_a_result_with_several_readers(target: Any, calls_of: Any) -> None:
    def body(builder: relax.BlockBuilder, x: Any, p: Any) -> Any:
        r = builder.emit(ops.pool_range(x, p, qmax=255))
        first = builder.emit(ops.global_avg_pool(x, p, r))
        second = builder.emit(ops.rescale(x, p, r))
        return relax.Tuple([first, second, r])

    after = check_by_hand(by_hand(body), target)
    assert calls_of(after) == ["call_tir", "probq.rescale"]


def test_a_prediction_of_a_prediction(target: Any, calls_of: Any, kernels_of: Any) -> None:
    def body(builder: relax.BlockBuilder, x: Any, p: Any) -> Any:
        r = builder.emit(ops.pool_range(x, p, qmax=255))
        both = builder.emit(ops.merge_ranges([r, p], qmax=255))
        return ops.rescale(x, p, both)

    after = check_by_hand(by_hand(body), target)
    assert calls_of(after) == ["call_tir"]
    ((call, func),) = kernels_of(after)
    assert len(call.args[1]) == 2
    assert func.attrs["probq.kernel"] == "probq_rescale"
    assert int(func.attrs["probq.inside_bytes"]) == 2 * 2 * 3 * 4


def test_what_a_float_operator_reads_first_stays(target: Any, unchanged: Any) -> None:
    def body(builder: relax.BlockBuilder, x: Any, p: Any) -> Any:
        r = builder.emit(ops.pool_range(x, p, qmax=255))
        both = builder.emit(ops.merge_ranges([r, p], qmax=255))
        doubled = builder.emit(relax.op.add(both, both))
        pooled = builder.emit(ops.global_avg_pool(x, p, r))
        return relax.Tuple([doubled, pooled, builder.emit(ops.rescale(x, p, both))])

    unchanged(CHANGE, by_hand(body))


def test_what_is_only_returned_stays(unchanged: Any) -> None:
    unchanged(CHANGE, by_hand(lambda _, x, p: ops.pool_range(x, p, qmax=255)))


@pytest.mark.parametrize("whole", [False, True])
def test_a_prediction_with_two_results(whole: bool, target: Any, calls_of: Any) -> None:
    kernel = pool_range_kernel(IMAGE[0], 1, 255)
    twice = merge_kernels(
        [kernel, kernel], [(0, 1, 2), (0, 2, 3)], [IMAGE, QPARAMS] + [QPARAMS] * 2
    )

    def body(builder: relax.BlockBuilder, x: Any, p: Any) -> Any:
        function = builder.add_func(twice, "twice")
        types = [relax.TensorType(*QPARAMS)] * 2
        both = builder.emit(relax.call_tir(function, [x, p], types))
        first = builder.emit(relax.TupleGetItem(both, 0))
        pooled = builder.emit(ops.global_avg_pool(x, p, builder.emit(relax.TupleGetItem(both, 1))))
        return relax.Tuple([pooled, builder.emit(ops.rescale(x, p, first)), both if whole else p])

    after = check_by_hand(by_hand(body), target)
    pooling = ["call_tir", "probq.global_avg_pool"] if whole else ["call_tir"]
    assert calls_of(after) == [*pooling, "probq.rescale"]


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
@pytest.mark.parametrize("channels", [8, 13])
def test_a_gated_network_equals_the_simulator(
    mode: str, channels: int, onnx_net: Any, imported: Any, calibrated: Any, target: Any
) -> None:
    net = onnx_net(3, 7, 7)
    x = net("HardSwish", net.conv("x", 3, channels))
    gate = net.conv(net("GlobalAveragePool", x), channels, channels, 1)
    gated = net("Mul", net("HardSigmoid", gate, alpha=1 / 6, beta=0.5), x)
    net.conv(net("Relu", net("Mul", net.conv(gated, channels, channels), gated)), channels, 4)
    record = calibrated(imported(net, steps=None))
    mod = imported(net, steps=None, batch=3)
    integer = tvm.transform.Sequential(quantize_passes(plan_of("w8a8", mode), record))(mod)
    lowered = tvm.transform.Sequential(kernel_passes(target))(integer)
    x = np.random.default_rng(2).normal(size=(3, 3, 7, 7)).astype(np.float32)
    (found,) = run(lowered, target, x)
    np.testing.assert_array_equal(found, Simulator(integer)(x))
