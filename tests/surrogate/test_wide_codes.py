"""Which tensors are stored in 16 bits, and how large their codes may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import load_model
from tvm_probq.ir.layers import Definitions
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.quantization.accumulator import prove_accumulator
from tvm_probq.surrogate.rounding import round_layer
from tvm_probq.surrogate.wide_codes import moves_wide_codes, wide_codes


def annotated(path: Any, *shape: int) -> tuple[Any, CalibrationRecord]:
    """A network and its record."""
    mod = load_model(path, batch=1).mod
    samples = np.random.default_rng(0).normal(size=(2, 1, *shape)).astype(np.float32)
    return mod, collect(mod, samples, CalibrationRecord("", ""))


@pytest.fixture(scope="module")
def network(onnx_net: Any, tmp_path_factory: Any) -> tuple[Any, CalibrationRecord]:
    """Layers that read a layer's output as it is, reshaped, pooled and as a residual."""
    net = onnx_net(3, 8, 8)
    x = net("Relu", net.conv("x", 3, 16, name="stem"))
    pooled = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    small = net.conv(pooled, 16, 8, 1, name="small")
    y = net("Relu", net("Add", net.conv(x, 16, 16, name="inner"), x))
    mean = net("Flatten", net("GlobalAveragePool", y))
    heads = net.gemm(mean, 16, 4), net.gemm(net("Flatten", small), 128, 3)
    return annotated(net.save(tmp_path_factory.mktemp("wide"), *heads), 3, 8, 8)


def found(network: tuple[Any, CalibrationRecord], plan: Plan) -> dict[str, int]:
    mod, record = network
    return wide_codes(mod, marked_tensors(mod), plan, record)


def test_what_layers_read_is_wide(network: Any) -> None:
    # The last two are read by pooling alone, or not at all.
    assert found(network, plan_of("w8a16")) == {"x": 32767, "stem": 32767, "small": 32767}
    assert found(network, plan_of("w8a12")) == {"x": 4095, "stem": 4095, "small": 4095}
    assert found(network, plan_of("w8a8")) == {}


def test_single_layers(network: Any) -> None:
    plan = Plan().override(["stem", "inner"], activation_bits=10)
    assert found(network, plan) == {"stem": 1023}


def test_float_layers_read_no_codes(network: Any) -> None:
    plan = plan_of("w8a16").override(["inner", "small"], mode="float")
    assert found(network, plan) == {"x": 32767, "small": 32767}


def test_a_residual_alone_is_a_reader(onnx_net: Any, tmp_path: Any) -> None:
    net = onnx_net(3, 8, 8)
    x = net("Relu", net.conv("x", 3, 8, name="first"))
    y = net("Relu", net("Add", net.conv("x", 3, 8), x))
    case = annotated(net.save(tmp_path, net.conv(y, 8, 4)), 3, 8, 8)
    assert found(case, Plan().override(["first"], activation_bits=16)) == {"first": 32767}


def test_codes_are_as_small_as_their_readers_sums_need(onnx_net: Any, tmp_path: Any) -> None:
    net = onnx_net(1200)
    wide = net("Relu", net("MatMul", "x", np.ones((1200, 40)), name="first"))
    narrow = net("MatMul", wide, np.ones((40, 3)), name="second")
    mod, record = annotated(net.save(tmp_path, narrow), 1200)
    plan = plan_of("w8a16", rounding="nearest")
    layer = marked_tensors(mod)["first"].layer
    assert layer is not None
    codes = round_layer(layer.weights, record.tensor("first"), plan.default).codes
    assert (codes == 127).all()
    largest = (2**31 - 1) // (2 * 1200 * 127)
    assert found((mod, record), plan) == {"x": largest, "first": 32767}
    assert prove_accumulator(codes, code_max=largest).bits == 32


def test_sums_too_long_for_codes_of_9_bits_keep_8(onnx_net: Any, tmp_path: Any) -> None:
    net = onnx_net(3, 105, 105)
    path = net.save(tmp_path, net("Conv", "x", np.ones((2, 3, 105, 105))))
    case = annotated(path, 3, 105, 105)
    assert found(case, plan_of("w8a16", rounding="nearest")) == {}


def test_what_moves_wide_codes(network: Any) -> None:
    definitions = Definitions(network[0]["main"])
    moving = {str(c.op.name) for c in definitions.order if moves_wide_codes(c)}
    assert "relax.nn.max_pool2d" in moving
    assert not moving & {"relax.mean", "relax.nn.conv2d", "relax.add"}
