"""Markers of what a file stores quantized, and reasons where it has no parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.ir.layers import keeps_parameters
from tvm_probq.passes.annotate_kept import AnnotateKept

BEFORE = -2  # all canonical passes come first, but for the annotations
CHANGE = AnnotateKept()
Marks = list[tuple[str, str]]


def conv(net: Any, x: str, inputs: int, outputs: int, name: str = "", **attributes: Any) -> str:
    """A convolution with codes of weights and a bias of codes."""
    group = attributes.get("group", 1)
    weights = net.coded(outputs, inputs // group, 3, 3)
    codes, scale = net.rng.integers(-99, 99, outputs).astype(np.int32), np.float32(0.002)
    bias = net("DequantizeLinear", net.exact(codes), net.exact(scale), net.exact(np.int32(0)))
    return net("Conv", x, weights, bias, name=name, pads=[1] * 4, **attributes)


def marks(mod: Any) -> Marks:
    """Name and kind of each marker."""
    return [(m.name, m.kind) for m in marked_tensors(mod).values()]


def annotated(net: Any, imported: Any, apply: Any) -> Any:
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert keeps_parameters(after)
    return after


def stem(net: Any) -> str:
    return net.pair(net("Relu", conv(net, net.pair("x"), 3, 8)))


MIDDLES: dict[str, tuple[Any, Marks]] = {
    "convolution": (lambda n: conv(n, stem(n), 8, 8), [("conv2d_1", "conv2d")]),
    "residual": (lambda n: n("Add", conv(n, y := stem(n), 8, 8), y), [("conv2d_1", "conv2d")]),
    "sum": (
        lambda n: n("Add", n.pair(conv(n, y := stem(n), 8, 8)), y),
        [("conv2d_1", "conv2d"), ("add", "add")],
    ),
    "product": (lambda n: n("Mul", y := stem(n), y), [("multiply", "multiply")]),
    "concat": (lambda n: n("Concat", y := stem(n), y, axis=1), [("concat", "concat")]),
    "pool": (lambda n: n("GlobalAveragePool", stem(n)), [("pool", "pool")]),
    "attention": (
        lambda n: n("MatMul", y := stem(n), n("Transpose", y, perm=[0, 1, 3, 2])),
        [("matmul", "matmul")],
    ),
    "other parameters": (
        lambda n: n("MaxPool", stem(n), kernel_shape=[2, 2]), [("rescale", "rescale")],
    ),
    "average pool": (
        lambda n: n("AveragePool", stem(n), kernel_shape=[2, 2]), [("rescale", "rescale")],
    ),
    "softmax": (lambda n: n("Softmax", stem(n)), [("nn_softmax", "float")]),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_kinds(name: str, onnx_net: Any, imported: Any, apply: Any) -> None:
    build, wanted = MIDDLES[name]
    net = onnx_net(3, 8, 8)
    net.pair(build(net), 0.1, np.uint8(100))
    after = annotated(net, imported, apply)
    assert marks(after) == [("x", "input"), ("conv2d_0", "conv2d"), *wanted]
    for m in marked_tensors(after).values():
        assert (m.reason != "") == (m.kind == "float")


@pytest.mark.parametrize("move", ["MaxPool", "Flatten"])
def test_moved_codes_are_not_quantized_again(
    move: str, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 8, 8)
    moved = net(move, stem(net), **({"kernel_shape": [2, 2]} if move == "MaxPool" else {}))
    net.pair(moved)
    after = annotated(net, imported, apply)
    assert calls_of(after).count("probq.quantize") == 2
    assert marks(after) == [("x", "input"), ("conv2d_0", "conv2d")]


def test_a_layer_without_parameters_for_its_result(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 8, 8)
    conv(net, stem(net), 8, 2)
    after = annotated(net, imported, apply)
    assert marks(after)[-1] == ("conv2d_1", "output")


def test_a_residual_without_parameters(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 8, 8)
    y = stem(net)
    net("Add", conv(net, y, 8, 8), net("Sigmoid", y))
    after = annotated(net, imported, apply)
    layer = marked_tensors(after)["conv2d_1"]
    assert layer.kind == "output"
    assert layer.layer is not None
    assert layer.layer.residual is None


@pytest.mark.parametrize("what", ["input", "weights"])
@pytest.mark.parametrize("stored", [True, False])
def test_a_layer_without_parameters_for_what_it_reads(
    what: str, stored: bool, onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 8, 8)
    y = stem(net)
    y = net.conv(y, 8, 4) if what == "weights" else conv(net, net("Sigmoid", y), 8, 4)
    if stored:
        net.pair(y)
    layer = list(marked_tensors(annotated(net, imported, apply)).values())[-1]
    assert (layer.name, layer.kind) == ("conv2d_1", "float")
    assert layer.reason == f"the file has no parameters for its {what}"
    assert str(layer.call.ty.dtype) == ("uint8" if stored else "float32")


def test_a_float_model_stays(onnx_net: Any, imported: Any, unchanged: Any) -> None:
    net = onnx_net(3, 8, 8)
    net.gemm(net("Flatten", net("Relu", net.conv("x", 3, 4))), 256, 2)
    unchanged(CHANGE, imported(net, steps=BEFORE))


def test_weights_of_codes_alone_become_float32(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 8, 8)
    conv(net, "x", 3, 4)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert "probq.dequantize_weight" not in calls_of(after)
    assert not keeps_parameters(after)


def test_products_over_positions(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(6, 8)
    weights = net.coded(8, 5, axis=1)
    net.pair(net("Add", net("MatMul", net.pair("x"), weights), net.draw(5)))
    after = annotated(net, imported, apply)
    assert marks(after) == [("x", "input"), ("conv2d_0", "conv2d")]
    assert marked_tensors(after)["conv2d_0"].layer is not None
    tvm.relax.analysis.well_formed(after)


def test_convolutions_along_one_axis(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 12)
    net.pair(net("Relu", net("Conv", net.pair("x"), net.coded(4, 3, 3))))
    assert marks(annotated(net, imported, apply)) == [("x", "input"), ("conv2d_0", "conv2d")]
