"""Marked tensors become codes, under parameters that their mode provides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import is_call, is_constant, shape_of
from tvm_probq.ir.layers import Definitions
from tvm_probq.passes.insert_surrogates import InsertSurrogates
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.plan.plan import LayerPlan, Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator


def sources(mod: Any) -> dict[str, str]:
    """For each marked tensor, what gives its parameters."""
    definitions = Definitions(mod["main"])
    found = {}
    for call in definitions.order:
        if is_call(call, "probq.layer"):
            codes = definitions.value(call.args[0])
            if is_call(codes, "probq.quantize"):
                qparams = definitions.value(codes.args[1])
                constant = is_constant(qparams)
                source = "constant" if constant else str(qparams.op.name).split(".")[-1]
                found[str(call.attrs["name"])] = source
    return found


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("static", {"constant"}), ("dynamic", {"observe", "merge_ranges", "pool_range"})],
)
def test_parameters_by_mode(mode: str, wanted: set[str], annotated_net: Any) -> None:
    mod, record = annotated_net
    assert set(sources(InsertSurrogates(plan_of("w8a8", mode), record)(mod)).values()) == wanted


def test_predicted_layers_have_surrogates(annotated_net: Any) -> None:
    mod, record = annotated_net
    found = sources(InsertSurrogates(plan_of("w8a8"), record)(mod))
    assert found.pop("x") == "observe"
    assert found.pop("concat") == "merge_ranges"
    assert found.pop("pool") == "pool_range"
    assert set(found.values()) == {"surrogate"}


def test_readers_share_the_sums_of_a_tensor(annotated_net: Any, calls_of: Any) -> None:
    mod, record = annotated_net
    after = InsertSurrogates(plan_of("w8a8", surrogate="moments"), record)(mod)
    definitions = Definitions(after["main"])
    read = [c.args[0] for c in definitions.order if is_call(c, "probq.sums")]
    assert len(read) == len(set(read))
    assert calls_of(after).count("probq.sums") < calls_of(after).count("probq.surrogate") + 2


@pytest.mark.parametrize(
    ("correction", "count"), [("none", 0), ("static", 0), ("predicted", 6), ("auto", 6)]
)
def test_correction(correction: str, count: int, annotated_net: Any, calls_of: Any) -> None:
    mod, record = annotated_net
    after = InsertSurrogates(plan_of("w8a8", correction=correction), record)(mod)
    assert calls_of(after).count("probq.correction") == count


def test_per_layer_exceptions(annotated_net: Any) -> None:
    mod, record = annotated_net
    layers = {"conv2d_1": LayerPlan(mode="static"), "conv2d_2": LayerPlan(mode="dynamic")}
    found = sources(InsertSurrogates(Plan(layers=layers), record)(mod))
    assert found["conv2d_0"] == "surrogate"
    assert found["conv2d_1"] == "constant"
    assert found["conv2d_2"] == "observe"


def test_bits_set_the_largest_code(annotated_net: Any) -> None:
    mod, record = annotated_net
    seen = {}

    def watch(call: Any, value: Any, args: Any) -> None:
        if is_call(call, "probq.quantize"):
            seen[call] = (int(args[1][0, 2, 0]), int(value.max()))

    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    Simulator(InsertSurrogates(plan_of("w8a4"), record)(mod))(x, watch=watch)
    limits = [limit for limit, _ in seen.values()]
    assert limits[0] == 255  # the input keeps eight bits
    assert set(limits[1:]) == {15}
    assert all(largest <= limit for limit, largest in seen.values())


def test_every_sample_has_its_own_parameters(onnx_net: Any, imported: Any, calibrated: Any) -> None:
    net = onnx_net(3, 4, 4)
    net.conv(net("Relu", net.conv("x", 3, 8)), 8, 2)
    record = calibrated(imported(net, steps=None))
    after = InsertSurrogates(plan_of("w8a8"), record)(imported(net, steps=None, batch=3))
    definitions = Definitions(after["main"])
    codes = [c for c in definitions.order if is_call(c, "probq.quantize")]
    assert [shape_of(c.args[1]) for c in codes] == [(3, 3, 1)] * len(codes)


def test_the_result_stays_close(annotated_net: Any, apply: Any) -> None:
    mod, record = annotated_net
    x = np.random.default_rng(3).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want = Simulator(mod)(x)
    for mode in ("static", "dynamic", "predicted"):
        change = InsertSurrogates(plan_of("w8a8", mode, correction="none"), record)
        got = Simulator(change(mod))(x)
        assert np.abs(got - want).max() < 0.1 * np.abs(want).max()


def test_a_module_without_markers_is_left_alone(
    onnx_net: Any, imported: Any, annotated_net: Any, unchanged: Any
) -> None:
    net = onnx_net(3, 4, 4)
    net("Relu", net.conv("x", 3, 8))
    unchanged(InsertSurrogates(plan_of("w8a8"), annotated_net[1]), imported(net, steps=-1))


def test_a_module_with_parameters_of_its_file_keeps_them(
    onnx_net: Any, imported: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 8, 8)
    stored = net.pair(net("Relu", net("Conv", net.pair("x"), net.coded(8, 3, 3, 3))))
    net("Conv", net("MaxPool", stored, kernel_shape=[2, 2]), net.coded(4, 8, 1, 1))
    mod = imported(net, steps=None)
    nothing = CalibrationRecord("", "")
    after = InsertSurrogates(plan_of("w8a8"), nothing)(mod)
    assert sorted(calls_of(after)) == sorted(calls_of(mod))
    moved = [c for c in calls_of(after) if c in ("nn.max_pool2d", "probq.dequantize", "nn.conv2d")]
    assert moved[-3:] == ["nn.max_pool2d", "probq.dequantize", "nn.conv2d"]
    integer = tvm.transform.Sequential(quantize_passes(plan_of("w8a8"), nothing))(mod)
    assert "probq.surrogate" not in calls_of(integer)
    assert calls_of(integer).count("probq.requantize") == 1


@pytest.fixture(scope="module")
def gated_net(onnx_net: Any, imported: Any, calibrated: Any) -> tuple[Any, Any]:
    """A squeeze-excite block whose gate stands first, and its record."""
    net = onnx_net(3, 8, 8)
    x = net("HardSwish", net.conv("x", 3, 24))
    squeezed = net("Relu", net.conv(net("GlobalAveragePool", x), 24, 8, 1))
    gate = net("HardSigmoid", net.conv(squeezed, 8, 24, 1), alpha=1 / 6, beta=0.5)
    net.conv(net("Mul", gate, x), 24, 5, 1)
    mod = imported(net, steps=None)
    return mod, calibrated(mod)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("static", "constant"), ("dynamic", "product_range"), ("predicted", "product_range")],
)
def test_a_product_gets_its_exact_range(
    mode: str, wanted: str, gated_net: tuple[Any, Any]
) -> None:  # fmt: skip
    mod, record = gated_net
    after = InsertSurrogates(plan_of("w8a8", mode), record)(mod)
    assert sources(after)["multiply"] == wanted


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_a_gated_network_is_integer_and_close(
    mode: str, gated_net: tuple[Any, Any], calls_of: Any
) -> None:
    mod, record = gated_net
    after = tvm.transform.Sequential(quantize_passes(plan_of("w8a8", mode), record))(mod)
    calls = calls_of(after)
    assert calls.count("probq.multiply") == 1
    assert calls.count("probq.quantize") == 1  # the input
    assert not {"multiply", "probq.dequantize"} & set(calls)
    assert ("probq.observe" in calls) == (mode != "static")  # of the input
    x = np.random.default_rng(3).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want = Simulator(mod)(x)
    assert np.abs(Simulator(after)(x) - want).max() < 0.1 * np.abs(want).max()


def test_layers_read_wide_codes_and_all_else_one_narrow_copy(
    annotated_net: Any, calls_of: Any
) -> None:
    mod, record = annotated_net
    after = InsertSurrogates(plan_of("w8a16"), record)(mod)
    definitions = Definitions(after["main"])
    narrow = [c for c in definitions.order if is_call(c, "probq.rescale")]
    wide = {c for c in definitions.order if str(getattr(c.ty, "dtype", "")) == "int16"}
    assert narrow
    assert len({c.args[0] for c in narrow}) == len(narrow)  # one copy of each
    assert all(definitions.value(c.args[0]) in wide for c in narrow)
    for call in definitions.order:
        if is_call(call, "nn.conv2d", "matmul"):
            codes = definitions.value(call.args[0]).args[0]
            stored = definitions.value(codes)
            joined = is_call(stored, "reshape") or "concat" in str(stored)
            assert joined or definitions.value(codes) in wide
        if is_call(call, "probq.sums", "probq.pool_range"):
            assert str(call.args[0].ty.dtype) == "uint8"
    read = [definitions.value(x) for c in definitions.order if is_call(c, "mean", "concat")
            for x in getattr(c.args[0], "fields", c.args[:1])]  # fmt: skip
    assert {str(x.args[0].ty.dtype) for x in read if is_call(x, "probq.dequantize")} == {"uint8"}
    assert calls_of(after).count("probq.merge_ranges") == len(narrow) + 1  # and of the join


def test_a_narrow_copy_has_the_same_zero_and_range(annotated_net: Any) -> None:
    mod, record = annotated_net
    seen = []

    def watch(call: Any, value: Any, args: Any) -> None:
        if is_call(call, "probq.rescale"):
            seen.append((*args, value))

    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    Simulator(InsertSurrogates(plan_of("w8a16"), record)(mod))(x, watch=watch)
    assert seen
    for codes, wide, narrow, found in seen:
        assert narrow[0, 2, 0] == 255
        zeros = codes == wide[0, 1, 0]
        assert (found[zeros] == narrow[0, 1, 0]).all()
        step = narrow[0, 0, 0]
        error = (found - narrow[0, 1, 0]) * step - (codes - wide[0, 1, 0]) * wide[0, 0, 0]
        assert np.abs(error).max() <= 0.5001 * step + wide[0, 0, 0]


def test_static_parameters_of_a_narrow_copy_are_constant(annotated_net: Any, calls_of: Any) -> None:
    mod, record = annotated_net
    after = InsertSurrogates(plan_of("w8a16", "static"), record)(mod)
    assert "probq.merge_ranges" not in calls_of(after)
    assert "probq.sums" not in calls_of(after)


def test_a_plan_of_8_bits_has_no_wide_codes(annotated_net: Any) -> None:
    mod, record = annotated_net
    after = InsertSurrogates(plan_of("w8a8"), record)(mod)
    dtypes = {str(getattr(c.ty, "dtype", "")) for c in Definitions(after["main"]).order}
    assert "int16" not in dtypes
