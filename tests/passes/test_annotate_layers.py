"""Every tensor that is to be stored quantized gets a marker and a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.passes.annotate_layers import NAMES, AnnotateLayers

CHANGE = AnnotateLayers()
BEFORE = -1  # all canonical passes come first, but for this one


def kinds(mod: Any) -> list[str]:
    """Kinds of the markers in order."""
    return [m.kind for m in marked_tensors(mod).values()]


def test_a_product_and_its_input() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                lv = R.matmul(x, R.const([[1.0], [2.0], [3.0]], "float32"))
                gv = R.add(lv, R.const([1.0], "float32"))
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                x1 = R.probq.layer(x, name="x", kind="input", reason="")
                lv = R.matmul(x1, R.const([[1.0], [2.0], [3.0]], "float32"))
                lv1 = R.add(lv, R.const([1.0], "float32"))
                gv = R.probq.layer(lv1, name="dense_0", kind="output", reason="")
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_without_products_nothing_is_marked(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32"), w: R.Tensor((3, 3), "float32")):
            with R.dataflow():
                lv = R.matmul(x, w)
                gv = R.exp(lv)
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def stem(net: Any) -> str:
    return net("Relu", net.conv("x", 3, 8))


def residual_pools(net: Any) -> str:
    x = stem(net)
    return net("Add", x, net("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4))


def flat_sum(net: Any) -> str:
    flat = [net("Reshape", stem(net), [0, 8, 64]) for _ in range(2)]
    return net("Reshape", net("Add", *flat), [0, 8, 8, 8])


def residual(net: Any) -> str:
    x = stem(net)
    return net("Relu", net("Add", net.conv(x, 8, 8), x))


def gated(net: Any, gate_first: bool = False, dense: bool = False) -> str:
    x = stem(net)
    pooled = net("GlobalAveragePool", x)
    if dense:
        wide = net.gemm(net("Flatten", pooled), 8, 8)
        gate = net("Reshape", net("HardSigmoid", wide, alpha=1 / 6, beta=0.5), [0, 8, 1, 1])
    else:
        gate = net("HardSigmoid", net.conv(pooled, 8, 8, 1), alpha=1 / 6, beta=0.5)
    return net("Mul", gate, x) if gate_first else net("Mul", x, gate)


def gated_by_sigmoid(net: Any) -> str:
    x = stem(net)
    return net("Mul", x, net("Sigmoid", net.conv(net("GlobalAveragePool", x), 8, 8, 1)))


def silu(net: Any) -> str:
    x = net.conv("x", 3, 8)
    return net("Mul", x, net("Sigmoid", x))


def branches(net: Any) -> str:
    return net("Relu", net("Mul", net.conv("x", 3, 8), stem(net)))


def clipped_and_not(net: Any) -> str:
    x = net.conv("x", 3, 8)
    return net("Concat", x, net("Relu", x), axis=1)


# What lies between a first and a last convolution, the channels it has, and the kinds of all.
MIDDLES: dict[str, tuple[Any, int, list[str]]] = {
    "relu": (stem, 8, ["conv2d"]),
    "hard_swish": (lambda n: n("HardSwish", n.conv("x", 3, 8)), 8, ["conv2d"]),
    "residual": (residual, 8, ["conv2d", "conv2d"]),
    "sum": (lambda n: n("Sum", stem(n), n.conv("x", 3, 8)), 8, ["conv2d", "conv2d"]),
    "sum_of_three": (
        lambda n: n("Sum", *(n.conv("x", 3, 8) for _ in range(3))), 8, ["conv2d"] * 3,
    ),
    "add": (residual_pools, 8, ["conv2d", "add"]),
    "add_of_flat": (flat_sum, 8, ["output", "output", "float"]),
    "concat": (lambda n: n("Concat", stem(n), stem(n), axis=1), 16, ["conv2d", "conv2d", "concat"]),
    "concat_of_input": (lambda n: n("Concat", "x", stem(n), axis=1), 11, ["conv2d", "concat"]),
    "pool": (lambda n: n("GlobalAveragePool", stem(n)), 8, ["conv2d", "pool"]),
    "gate": (gated, 8, ["conv2d", "pool", "conv2d", "multiply"]),
    "gate_first": (lambda n: gated(n, True), 8, ["conv2d", "pool", "conv2d", "multiply"]),
    "dense_gate": (lambda n: gated(n, dense=True), 8, ["conv2d", "pool", "dense", "multiply"]),
    "sigmoid_gate": (
        gated_by_sigmoid, 8, ["conv2d", "pool", "conv2d", "multiply"],
    ),
    "silu": (silu, 8, ["conv2d"]),
    "product": (branches, 8, ["conv2d", "conv2d", "multiply"]),
    "product_with_a_constant": (
        lambda n: n("Mul", stem(n), np.full((1, 8, 1, 1), 2, np.float32)), 8, ["output", "float"],
    ),
    "max_pool": (lambda n: n("MaxPool", stem(n), kernel_shape=[2, 2]), 8, ["conv2d"]),
    "average_pool": (lambda n: n("AveragePool", stem(n), kernel_shape=[2, 2]), 8, ["conv2d"]),
    "clip_of_a_tensor_read_twice": (clipped_and_not, 16, ["conv2d", "concat"]),
    "clip_of_a_float_tensor": (
        lambda n: n("Relu", n("Sin", stem(n))), 8, ["output", "float"],
    ),
    "gather": (lambda n: n("Gather", stem(n), [3, 1], axis=1), 2, ["conv2d"]),
    "transposed_convolution": (
        lambda n: n("ConvTranspose", stem(n), n.draw(8, 4, 2, 2), strides=[2, 2]), 4,
        ["conv2d", "conv2d"],
    ),
    "pad": (lambda n: n("Pad", stem(n), [0, 1, 1, 1, 0, 0, 1, 1]), 9, ["conv2d"]),
    "pad_with_a_value": (
        lambda n: n("Pad", stem(n), [0, 0, 1, 1, 0, 0, 1, 1], np.float32(2)), 8,
        ["output", "float"],
    ),
    "sigmoid": (lambda n: n("Sigmoid", stem(n)), 8, ["output", "float"]),
    "split": (lambda n: n("Split", stem(n), axis=1, outputs=2), 4, ["conv2d"]),
    "slice": (lambda n: n("Slice", stem(n), [1], [4], [1]), 3, ["conv2d"]),
    "transposed": (lambda n: n("Transpose", stem(n), perm=[0, 1, 3, 2]), 8, ["conv2d"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_kinds(name: str, onnx_net: Any, imported: Any, apply: Any) -> None:
    middle, channels, wanted = MIDDLES[name]
    net = onnx_net(3, 8, 8)
    net.gemm(net("Flatten", net.conv(middle(net), channels, 4)), 256, 2)
    net.nodes[-2:] = []  # the shape of the last convolution's output differs by case
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert kinds(after) == ["input", *wanted, kinds(after)[-1]]
    float_marks = [m for m in marked_tensors(after).values() if m.kind == "float"]
    assert all(m.reason for m in float_marks)


ENDS: dict[str, Any] = {
    "none": lambda n, x: x,
    "sigmoid": lambda n, x: n("Sigmoid", x),
    "softmax_of_rows": lambda n, x: n("Softmax", n("Reshape", x, [0, 4, -1]), axis=1),
    "resize": lambda n, x: n("Resize", x, "", [1.0, 1, 2, 2], mode="linear"),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("several", [False, True])
def test_a_product_that_only_leaves_stays_float32(
    name: str, several: bool, onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 8, 8)
    last = net.conv(net("Relu", net.conv("x", 3, 8)), 8, 4)
    outputs = [ENDS[name](net, last)]
    if several:
        outputs.append(net("Sigmoid", net("Slice", last, [0], [2], [1])))
    after = apply(CHANGE, imported(net, *outputs, steps=BEFORE))
    assert kinds(after) == ["input", "conv2d", "output"]


def test_a_reshape_across_samples_is_a_tensor_of_its_own(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 4, 4)
    net.gemm(net("Reshape", stem(net), [-1, 32]), 32, 2)
    assert kinds(apply(CHANGE, imported(net, steps=BEFORE))) == [
        "input",
        "output",
        "float",
        "output",
    ]


def test_a_join_of_samples_is_a_tensor_of_its_own(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 4, 4)
    net.conv(net("Concat", stem(net), stem(net), axis=0), 8, 2)
    assert kinds(apply(CHANGE, imported(net, steps=BEFORE)))[3] == "float"


def test_a_layer_behind_several_results_stays_float(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 4, 4)
    net("TopK", stem(net), [4], axis=3, outputs=2)
    net.conv(net.nodes[-1].output[0], 8, 2)
    after = apply(CHANGE, imported(net, steps=BEFORE), numeric=False)
    last = list(marked_tensors(after).values())[-1]
    assert last.kind == "float"
    assert "several results" in last.reason


def test_names_from_the_front_end(onnx_net: Any, imported: Any) -> None:
    net = onnx_net(3, 4, 4)
    net.conv(stem(net), 8, 2)
    mod = imported(net, steps=BEFORE)
    named = mod.clone()
    named["main"] = mod["main"].with_attr(NAMES, ["first", "second"])
    assert list(marked_tensors(CHANGE(named))) == ["x", "first", "second"]
    named["main"] = mod["main"].with_attr(NAMES, ["same", "same"])
    assert list(marked_tensors(CHANGE(named))) == ["x", "same", "same_1"]
    named["main"] = mod["main"].with_attr(NAMES, ["too few"])
    assert list(marked_tensors(CHANGE(named))) == ["x", "conv2d_0", "conv2d_1"]


def test_a_skipped_layer_stays_float(onnx_net: Any, imported: Any) -> None:
    net = onnx_net(3, 4, 4)
    net.conv(stem(net), 8, 2)
    after = AnnotateLayers(skip={"conv2d_0": "too slow"})(imported(net, steps=BEFORE))
    skipped = marked_tensors(after)["conv2d_0"]
    assert (skipped.kind, skipped.reason) == ("float", "too slow")


def test_a_second_reader_of_the_input_reads_the_marker(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(8, 4, 4)
    net.conv(net("Relu", net("Add", net.conv("x", 8, 8), "x")), 8, 2)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    layer = list(marked_tensors(after).values())[1].layer
    assert layer is not None
    assert layer.residual is not None
