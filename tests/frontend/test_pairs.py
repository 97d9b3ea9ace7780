"""Models that are quantized already: what is kept, what is refused, what --requantize leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import CalibrationError, ModelError, PlanError, ProbqError, UnsupportedError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.frontend.pairs import Pairs
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile


def dense(net: Any, weights: str, **attributes: Any) -> Path:
    """A model ``pair(gemm(pair(x), weights))``."""
    net.pair(net("Gemm", net.pair("x"), weights, name="head", **attributes))
    return net


@pytest.fixture
def net(onnx_net: Any) -> Any:
    return onnx_net(6, opset=21)


def refused(path: Path, kind: type[ProbqError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        load_model(path)
    assert caught.value.where == str(path)
    for word in words:
        assert word in str(caught.value)


WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "zero-points": ({"zero": np.int8(3)}, "are int8 with zero-points"),
    "no middle": ({"zero": np.uint8(127)}, "are uint8 with zero-points"),
    "16 bits": ({"zero": np.int16(0)}, "are int16"),
    "input channels": ({"axis": 1}, "have scales along axis 1"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_cannot_be_kept(name: str, onnx_net: Any, tmp_path: Path) -> None:
    options, message = WEIGHTS[name]
    net = onnx_net(6, opset=21)
    path = dense(net, net.coded(4, 6, **options), transB=1).save(tmp_path)
    refused(path, UnsupportedError, "the node 'head' (Gemm)", message, "give --requantize")
    assert not load_model(path, requantize=True).keeps_parameters


def test_activations_of_several_scales_cannot_be_kept(net: Any, tmp_path: Path) -> None:
    parameters = net.exact(np.full(6, 0.1, np.float32)), net.exact(np.zeros(6, np.int8))
    net("DequantizeLinear", net("QuantizeLinear", "x", *parameters), *parameters)
    path = net.save(tmp_path)
    refused(path, UnsupportedError, "stores 'x' with 6 scales", "give --requantize")
    assert load_model(path, requantize=True).outputs[0][1] == (1, 6)


def test_scales_of_channels_before_a_depthwise_layer(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(4, 6, 6, opset=21)
    scale, zero = net.rng.uniform(0.01, 0.05, 4).astype(np.float32), np.array([0, 9, -9, 1], "i1")
    parameters = net.exact(scale), net.exact(zero)
    x = net("Relu", net.pair("x"))
    x = net("DequantizeLinear", net("QuantizeLinear", x, *parameters), *parameters)
    weights = net.coded(4, 1, 3, 3)
    path = net.save(tmp_path, net.pair(net("Conv", x, weights, group=4, pads=[1] * 4)))
    model = load_model(path)
    assert [m.kind for m in marked_tensors(model.mod).values()] == ["input", "float", "conv2d"]
    data = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": data})
    found = Simulator(quantized(model, plan_of("w8a8s"), None))(data)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    net("Conv", x, net.coded(8, 4, 3, 3))
    refused(net.save(tmp_path), UnsupportedError, "with 4 scales", "give --requantize")


def test_activations_of_16_bits_cannot_be_kept(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(6, opset=21)
    net.pair("x", zero=np.uint16(9))
    refused(net.save(tmp_path), UnsupportedError, "stores 'x' as uint16", "give --requantize")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_a_scale_that_is_none(scale: float, net: Any, tmp_path: Path) -> None:
    net.pair("x", scale)
    refused(net.save(tmp_path), ModelError, "no positive number")


@pytest.mark.parametrize("operator", ["ConvInteger", "com.microsoft:QLinearAdd"])
def test_operators_on_integers(operator: str, net: Any, tmp_path: Path) -> None:
    path = net.save(tmp_path, net("Relu", "x"))
    proto = onnx.load(path)
    domain, _, name = operator.rpartition(":")
    node = helper.make_node(name, ["q", "w"], ["y"], name="strange", domain=domain)
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.uint8), n) for n in ("q", "w")
    )
    proto.graph.node.append(node)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, path)
    refused(path, UnsupportedError, f"the node 'strange' ({name})", "QuantFormat.QDQ")


def test_the_graph_without_pairs(net: Any) -> None:
    y = net.pair(net.pair("x"))
    y = net.pair(net("Gemm", y, net.coded(4, 6, axis=1, scale=np.ones(6)), transB=1))
    proto = net.proto(y)
    (codes,) = (a for t in proto.graph.initializer if (a := numpy_helper.to_array(t)).ndim == 2)
    Pairs(proto).strip()
    onnx.checker.check_model(proto)
    assert [n.op_type for n in proto.graph.node] == ["Gemm", "Identity"]
    assert [o.name for o in proto.graph.output] == [y]
    x = np.ones((1, 6), np.float32)
    (found,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(found, x @ codes.astype(np.float32).T)


def test_weights_alone_are_those_of_a_float_model(net: Any, tmp_path: Path) -> None:
    net("Gemm", "x", net.coded(4, 6, zero=np.int8(5)), transB=1)
    model = load_model(net.save(tmp_path))
    assert not model.keeps_parameters
    assert [m.kind for m in marked_tensors(model.mod).values()] == ["input", "output"]


def test_codes_that_leave_the_model(net: Any, tmp_path: Path) -> None:
    codes = net("QuantizeLinear", net.pair("x"), 0.1, net.exact(np.uint8(0)))
    model = load_model(net.save(tmp_path, codes))
    assert model.keeps_parameters
    assert model.outputs[0][2] == "uint8"


def test_a_model_with_parameters_is_not_calibrated(net: Any, tmp_path: Path) -> None:
    model = load_model(dense(net, net.coded(4, 6), transB=1).save(tmp_path))
    with pytest.raises(CalibrationError, match="nothing to calibrate.*--requantize"):
        collect(model.mod, [], CalibrationRecord(model.sha256, ""))


@pytest.mark.parametrize("scheme", ["w8a8p", "w8a8d"])
def test_a_plan_of_another_mode(scheme: str, net: Any, tmp_path: Path) -> None:
    model = load_model(dense(net, net.coded(4, 6), transB=1).save(tmp_path))
    with pytest.raises(PlanError, match="keeps the parameters of its file"):
        quantized(model, plan_of(scheme), None)


def test_a_plan_of_mode_float_is_the_file_itself(net: Any, tmp_path: Path) -> None:
    model = load_model(dense(net, net.coded(4, 6), transB=1).save(tmp_path))
    compiled = compile_model(model, plan_of("w8a8", "float"), None, load_profile("x86-64"))
    assert compiled.mode == "float"


def test_codes_of_all_values_are_kept(net: Any, tmp_path: Path) -> None:
    """-128 is a code too, which our own rounding never gives."""
    codes = np.full((4, 6), -128, np.int8)
    parameters = net.exact(np.float32(0.01)), net.exact(np.int8(0))
    weights = net("DequantizeLinear", net.exact(codes), *parameters)
    path = dense(net, weights, transB=1).save(tmp_path)
    x = np.random.default_rng(0).normal(size=(1, 6)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    found = Simulator(quantized(load_model(path), plan_of("w8a8", "static"), None))(x)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
