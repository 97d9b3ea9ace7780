"""Codes and parameters that a file brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, is_call
from tvm_probq.ir.rewrite import bindings
from tvm_probq.passes.keep_parameters import KeepParameters

CHANGE = KeepParameters()
ZERO = np.int8(0)
RNG = np.random.default_rng(0)
CODES = RNG.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
SCALES = RNG.uniform(0.01, 0.02, 4).astype(np.float32)


def module(build: Callable[[relax.BlockBuilder, Any], Any], shape: Any = (2, 3, 8, 8)) -> Any:
    """A function of ``x``."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(build(builder, x))
        builder.emit_func_output(out)
    return builder.finalize()


def quantize(builder: Any, x: Any, scale: Any, zero: Any, axis: int = 1) -> Any:
    dtype = str(np.asarray(zero).dtype)
    return builder.emit(
        relax.op.quantize(x, constant(scale), constant(zero), axis=axis, out_dtype=dtype)
    )


def dequantize(builder: Any, q: Any, scale: Any, zero: Any, axis: int = 1) -> Any:
    return builder.emit(relax.op.dequantize(q, constant(scale), constant(zero), axis=axis))


def pair(builder: Any, x: Any, scale: float = 0.02, zero: Any = ZERO) -> Any:
    q = quantize(builder, x, np.float32(scale), zero)
    return dequantize(builder, q, np.float32(scale), zero)


def values(mod: Any, name: str) -> list[Any]:
    return [b.value for b in bindings(mod["main"]) if is_call(b.value, name)]


@pytest.mark.parametrize("zero", [np.int8(-3), np.uint8(125)])
def test_a_pair(zero: Any, apply: Any) -> None:
    before = module(lambda b, x: relax.op.nn.relu(pair(b, x, zero=zero)))

    def build(builder: Any, x: Any) -> Any:
        qparams = constant(np.tile(np.float32([[0.02], [125], [255]]), (2, 1, 1)))
        q = builder.emit(ops.quantize(x, qparams))
        return relax.op.nn.relu(builder.emit(ops.dequantize(q, qparams)))

    after = apply(CHANGE, before, numeric=False)
    tvm.ir.assert_structural_equal(after, CHANGE(module(build)))


def test_readers_share_the_codes(apply: Any, calls_of: Any) -> None:
    def build(builder: Any, x: Any) -> Any:
        q = quantize(builder, x, np.float32(0.1), np.uint8(7))
        reads = [dequantize(builder, q, np.float32(0.1), np.uint8(7)) for _ in range(2)]
        return relax.op.add(*reads)

    after = apply(CHANGE, module(build), numeric=False)
    assert calls_of(after) == ["probq.quantize", "probq.dequantize", "add"]


def convolution(codes: Any, scale: Any, zero: Any, axis: int = 0) -> Any:
    return module(
        lambda b, x: relax.op.nn.conv2d(x, dequantize(b, constant(codes), scale, zero, axis))
    )


@pytest.mark.parametrize("scale", [SCALES, SCALES[0]], ids=["channels", "tensor"])
@pytest.mark.parametrize("signed", [True, False])
def test_codes_of_weights(scale: Any, signed: bool, apply: Any) -> None:
    zeros = np.zeros(np.shape(scale), np.int8)
    mod = convolution(CODES, scale, zeros)
    if not signed:
        codes = (CODES.astype(np.int16) + 128).astype(np.uint8)
        mod = convolution(codes, scale, (zeros + np.int16(128)).astype(np.uint8))
    (weights,) = values(apply(CHANGE, mod, numeric=False), "probq.dequantize_weight")
    np.testing.assert_array_equal(constant_value(weights.args[0]), CODES)
    wanted = np.broadcast_to(scale, (4,))
    np.testing.assert_array_equal(constant_value(weights.args[1]), wanted)


def test_weights_that_are_quantized_in_the_graph(apply: Any) -> None:
    real = CODES.astype(np.float32) * SCALES.reshape(-1, 1, 1, 1)
    zeros = np.zeros(4, np.int8)

    def build(builder: Any, x: Any) -> Any:
        q = quantize(builder, constant(real), SCALES, zeros, 0)
        return relax.op.nn.conv2d(x, dequantize(builder, q, SCALES, zeros, 0))

    (weights,) = values(apply(CHANGE, module(build), numeric=False), "probq.dequantize_weight")
    np.testing.assert_array_equal(constant_value(weights.args[0]), CODES)


@pytest.mark.parametrize("scale", [SCALES, SCALES[0]], ids=["channels", "tensor"])
def test_the_transposed_weights_of_a_dense_layer(scale: Any, apply: Any) -> None:
    codes = CODES[:, :, 0, 0]

    def build(builder: Any, x: Any) -> Any:
        zeros = np.zeros(np.shape(scale), np.int8)
        weights = dequantize(builder, constant(codes), scale, zeros, 0)
        return relax.op.matmul(x, builder.emit(relax.op.permute_dims(weights, [1, 0])))

    after = apply(CHANGE, module(build, (2, 3)), numeric=False)
    (weights,) = values(after, "probq.dequantize_weight")
    assert int(weights.attrs["axis"]) == 1
    np.testing.assert_array_equal(constant_value(weights.args[0]), codes.T)


FLOAT: dict[str, tuple[Any, Any, Any, int]] = {
    "asymmetric": (CODES, SCALES, np.full(4, 3, np.int8), 0),
    "of 32 bits": (CODES.astype(np.int32), SCALES, np.zeros(4, np.int32), 0),
    "with scales of input channels": (CODES, SCALES[:3], np.zeros(3, np.int8), 1),
}


@pytest.mark.parametrize("name", FLOAT)
def test_weights_that_become_float32(name: str, apply: Any, calls_of: Any) -> None:
    codes, scale, zero, axis = FLOAT[name]
    after = apply(CHANGE, convolution(codes, scale, zero, axis), numeric=False)
    assert calls_of(after) == ["nn.conv2d"]
    shape = [-1 if at == axis else 1 for at in range(4)]
    real = (codes - zero.reshape(shape).astype(np.int32)).astype(np.float32) * scale.reshape(shape)
    found = constant_value(values(after, "nn.conv2d")[0].args[1])
    np.testing.assert_array_equal(found, real)


def test_other_readers_of_weights_get_float32(apply: Any, calls_of: Any) -> None:
    def build(builder: Any, x: Any) -> Any:
        other = dequantize(builder, constant(CODES[:1]), np.float32(0.5), np.int8(0), 0)
        return relax.op.concat([x, builder.emit(relax.op.tanh(other))], axis=0)

    after = apply(CHANGE, module(build, (1, 3, 3, 3)), numeric=False)
    assert calls_of(after) == ["tanh", "concat"]


def per_channel(builder: Any, x: Any, groups: int, axis: int = 1) -> Any:
    """A convolution behind a pair with a scale for each of four channels."""
    zeros = np.array([-3, 0, 5, 127], np.int8)
    y = dequantize(builder, quantize(builder, x, SCALES, zeros, axis), SCALES, zeros, axis)
    weights = constant(np.ones((4, 4 // groups, 3, 3), np.float32))
    return relax.op.nn.conv2d(y, weights, groups=groups)


def test_scales_of_channels_that_depthwise_layers_read(apply: Any, calls_of: Any) -> None:
    mod = module(lambda b, x: per_channel(b, x, 4), (2, 4, 8, 8))
    after = apply(CHANGE, mod, numeric=False)
    stored = ["permute_dims", "probq.quantize", "probq.dequantize", "permute_dims"]
    assert calls_of(after) == [*stored, "nn.conv2d"]
    qparams = constant_value(values(after, "probq.quantize")[0].args[1])
    rows = np.stack([SCALES, [125, 128, 133, 255], np.full(4, 255)])
    np.testing.assert_array_equal(qparams, np.tile(rows.astype(np.float32), (2, 1, 1)))


@pytest.mark.parametrize(("groups", "axis"), [(1, 1), (2, 1), (4, 2)])
def test_scales_of_channels_that_others_read(groups: int, axis: int, unchanged: Any) -> None:
    unchanged(CHANGE, module(lambda b, x: per_channel(b, x, groups, axis), (2, 4, 4, 8)))


OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "several scales": lambda b, x: dequantize(
        b, quantize(b, x, SCALES[:3], np.zeros(3, np.int8)), SCALES[:3], np.zeros(3, np.int8)
    ),
    "16 bits": lambda b, x: pair(b, x, zero=np.int16(0)),
    "different scales": lambda b, x: dequantize(
        b, quantize(b, x, np.float32(0.1), np.int8(0)), np.float32(0.2), np.int8(0)
    ),
    "never dequantized": lambda b, x: quantize(b, x, np.float32(0.1), np.int8(0)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_pair_stays(name: str, unchanged: Any) -> None:
    def build(builder: Any, x: Any) -> Any:
        y = OTHERS[name](builder, x)
        return relax.op.reshape(y, (2, -1))

    unchanged(CHANGE, module(build))


def test_a_float_model_stays(onnx_net: Any, imported: Any, unchanged: Any) -> None:
    net = onnx_net(3, 8, 8)
    net.gemm(net("Flatten", net("Relu", net.conv("x", 3, 4))), 256, 2)
    unchanged(CHANGE, imported(net))
