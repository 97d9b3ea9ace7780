"""The interpreter against ONNX Runtime, and against TVM's own operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.frontend.onnx import load_model
from tvm_probq.simulator.interpreter import Simulator

Body = Callable[[Any], Any]
POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}

NETS: dict[str, Body] = {
    "conv": lambda n: n.conv("x", 4, 6),
    "strided": lambda n: n.conv("x", 4, 6, strides=[2, 1], pads=[0, 1, 2, 1]),
    "dilated": lambda n: n.conv("x", 4, 6, dilations=[2, 2], pads=[2] * 4),
    "grouped": lambda n: n.conv("x", 4, 6, group=2),
    "depthwise": lambda n: n.conv("x", 4, 4, group=4),
    "multiplied": lambda n: n.conv("x", 4, 8, group=4),
    "batch_norm": lambda n: n.batch_norm(n.conv("x", 4, 6), 6),
    "max_pool": lambda n: n("MaxPool", "x", **POOL),
    "max_pool_ceil": lambda n: n("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average_pool": lambda n: n("AveragePool", "x", **POOL),
    "global_pool": lambda n: n("GlobalAveragePool", "x"),
    "mean": lambda n: n("ReduceMean", "x", axes=[1], keepdims=0),
    "sum": lambda n: n("Sum", "x", n("Relu", "x"), n.draw(1, 4, 1, 1)),
    "softmax": lambda n: n("Softmax", n("Flatten", "x"), axis=1),
    "sigmoid": lambda n: n("Mul", "x", n("Sigmoid", "x")),
    "hard_swish": lambda n: n("HardSwish", "x"),
    "hard_sigmoid": lambda n: n("HardSigmoid", "x", alpha=0.3),
    "clip": lambda n: n("Clip", "x", np.float32(-0.5), np.float32(1)),
    "pad": lambda n: n("Pad", "x", [0, 0, 1, 2, 0, 1, 0, 1], np.float32(2)),
    "pad_reflect": lambda n: n("Pad", "x", [0, 0, 1, 2, 0, 0, 0, 1], mode="reflect"),
    "concat": lambda n: n("Concat", "x", n("Tanh", "x"), axis=1),
    "slice": lambda n: n("Slice", "x", [1, 0], [7, 3], [2, 1], [2, 1]),
    "transpose": lambda n: n("Transpose", "x", perm=[0, 2, 3, 1]),
    "gather": lambda n: n("Gather", "x", np.array([[3, 0], [1, 1]], np.int64), axis=1),
    "gather_negative": lambda n: n("Gather", "x", np.array(-2, np.int64), axis=2),
    "gemm": lambda n: n(
        "Gemm", n("Flatten", "x"), n.draw(5, 252), n.draw(5), transB=1, alpha=0.5, beta=2.0
    ),
    "leaky": lambda n: n("LeakyRelu", "x", alpha=0.1),
    "resize": lambda n: n("Resize", "x", "", [1.0, 1.0, 2.0, 2.0], mode="nearest"),
    "average_pool_padded": lambda n: n(
        "AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]
    ),
    "average_pool_counts": lambda n: n(
        "AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1],
        count_include_pad=1, ceil_mode=1,
    ),
    "transposed": lambda n: n(
        "ConvTranspose", "x", n.draw(4, 3, 3, 4), n.draw(6), strides=[2, 3], pads=[1, 0, 0, 2],
        output_padding=[1, 0], dilations=[2, 1], group=2,
    ),
    "dropout": lambda n: n("Relu", n("Dropout", "x")),
    "erf": lambda n: n("Erf", "x"),
}  # fmt: skip


@pytest.mark.parametrize("canonical", [False, True], ids=["imported", "canonical"])
@pytest.mark.parametrize("name", NETS)
def test_against_onnxruntime(name: str, canonical: bool, onnx_net: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the reference")
    net = onnx_net(4, 9, 7)
    out = NETS[name](net)
    x = net.draw(1, 4, 9, 7, scale=2.0)
    proto = net.proto(out)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (wanted,) = session.run(None, {"x": x})
    mod = from_onnx(proto, shape_dict={"x": list(x.shape)}, keep_params_in_input=False)
    found = Simulator(load_model(net.save(tmp_path, out)).mod if canonical else mod)(x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def module(shape: tuple[int, ...], body: Body, dtype: str = "float32") -> Any:
    """A module of one parameter."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(body(x))
        builder.emit_func_output(out)
    return builder.finalize()


OPERATORS: dict[str, tuple[tuple[int, ...], Body]] = {
    "cumsum": ((3, 4), lambda x: relax.op.cumsum(x, 1)),
    "pool_nchw": ((1, 3, 5, 5), lambda x: relax.op.nn.max_pool2d(x, (2, 2), (2, 2))),
    "pool_ceil": (
        (1, 5, 5, 3),
        lambda x: relax.op.nn.max_pool2d(x, (2, 2), (2, 2), ceil_mode=True, layout="NHWC"),
    ),
    "pool_ceil_border": (
        (1, 2, 2, 3),
        lambda x: relax.op.nn.max_pool2d(x, (1, 1), (2, 2), ceil_mode=True, layout="NHWC"),
    ),
    "pad_reflect": (
        (1, 4, 4, 2),
        lambda x: relax.op.nn.pad(x, [0, 0, 1, 1, 2, 1, 0, 0], "reflect"),
    ),
    "mean": ((2, 3, 4), lambda x: relax.op.mean(x, [1], True)),
    "stack": ((2, 3), lambda x: relax.op.stack([x, x], 1)),
    "gelu": ((2, 3), relax.op.nn.gelu),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_against_tvm(name: str) -> None:
    shape, body = OPERATORS[name]
    mod = module(shape, body)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    machine = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())
    wanted = machine["main"](tvm.runtime.tensor(x)).numpy()
    found = Simulator(mod)(x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_unknown_operator_is_compiled_once() -> None:
    mod = module((2, 3), lambda x: relax.op.erf(x))
    simulator = Simulator(mod)
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    first = simulator(x)
    assert len(simulator.compiled) == 1
    assert np.array_equal(simulator(x), first)
    assert len(simulator.compiled) == 1


def test_every_call_is_watched_and_old_tensors_are_dropped() -> None:
    mod = module((2, 3), lambda x: relax.op.exp(x))
    seen: list[Any] = []
    Simulator(mod)(np.zeros((2, 3), np.float32), watch=lambda call, value, args: seen.append(value))
    assert [v.tolist() for v in seen] == [[[1.0] * 3] * 2]


def test_integer_convolutions_are_exact() -> None:
    from tvm_probq.simulator.convolution import conv2d

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 5, 5, 600)).astype(np.uint8)
    w = rng.integers(-127, 128, (3, 3, 3, 600)).astype(np.int8)
    found = conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    views = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), axis=(1, 2))
    wanted = np.einsum("nhwcij,oijc->nhwo", views, w.astype(np.int64))
    assert found.dtype == np.int32
    assert np.array_equal(found, wanted)
