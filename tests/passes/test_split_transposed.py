"""Transposed convolutions become convolutions whose channels are pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.ir.layers import Definitions, find_layers
from tvm_probq.passes.split_transposed import SplitTransposed

CHANGE = SplitTransposed()
BEFORE = -4  # all canonical passes come first, but for this one and the last three


def test_two_by_two() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 1), "float32")):
            with R.dataflow():
                lv = R.nn.conv2d_transpose(
                    x, R.const([[[[1, 2], [3, 4]]]], "float32"), strides=[2, 2],
                    data_layout="NHWC", kernel_layout="IOHW",
                )  # fmt: skip
                gv = R.add(lv, R.const([5], "float32"))
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 1), "float32")):
            with R.dataflow():
                lv = R.nn.conv2d(
                    x, R.const([[[[1]]], [[[2]]], [[[3]]], [[[4]]]], "float32"),
                    data_layout="NHWC", kernel_layout="OHWI",
                )  # fmt: skip
                lv1 = R.add(lv, R.const([5, 5, 5, 5], "float32"))
                lv2 = R.reshape(lv1, R.shape([1, 3, 4, 2, 2, 1]))
                lv3 = R.permute_dims(lv2, axes=[0, 1, 3, 2, 4, 5])
                gv = R.reshape(lv3, R.shape([1, 6, 8, 1]))
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


# Kernel, strides, padding, output padding, dilation, groups.
SHAPES = {
    "without stride": (3, 1, [1, 1, 1, 1], 0, 1, 1),
    "twice": (4, 2, [1, 1, 1, 1], 0, 1, 1),
    "output padding": (3, 2, [1, 1, 1, 1], 1, 1, 1),
    "uneven padding": (5, 3, [0, 2, 3, 1], 0, 1, 1),
    "all padding": (3, 2, [2, 2, 2, 2], 1, 1, 1),
    "more padding than kernel": (2, 3, [2, 2, 2, 2], 0, 1, 1),
    "gaps": (2, 3, [0, 0, 0, 0], 0, 1, 1),
    "dilated": (3, 2, [1, 0, 2, 3], 0, 2, 1),
    "groups": (4, 2, [1, 1, 1, 1], 0, 1, 2),
    "depthwise": (3, 2, [1, 1, 1, 1], 1, 1, 4),
}


@pytest.mark.parametrize("case", SHAPES)
def test_all_shapes(case: str, onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    kernel, stride, pads, after, dilation, groups = SHAPES[case]
    net = onnx_net(4, 5, 6)
    weights = net.draw(4, 4 // groups, kernel, kernel, scale=0.3)
    y = net(
        "ConvTranspose", "x", weights, net.draw(4), strides=[stride] * 2, pads=pads,
        output_padding=[after] * 2, dilations=[dilation] * 2, group=groups,
    )  # fmt: skip
    net("Relu", net.batch_norm(y, 4))
    after_pass = apply(CHANGE, imported(net, steps=BEFORE, batch=2))
    assert "nn.conv2d_transpose" not in calls_of(after_pass)
    (layer,) = find_layers(Definitions(after_pass["main"]))
    assert layer.activation == "clip(0.0,inf)"
    assert np.abs(layer.bias).min() > 0


def test_one_dimension(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 7)
    y = net("ConvTranspose", "x", net.draw(3, 5, 4), net.draw(5), strides=[2], pads=[1, 1])
    net("Relu", y)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert "nn.conv2d_transpose" not in calls_of(after)
    (layer,) = find_layers(Definitions(after["main"]))
    assert layer.activation == "clip(0.0,inf)"


def test_a_result_that_is_read_twice_keeps_its_activation(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 5, 5)
    y = net("ConvTranspose", "x", net.draw(3, 5, 2, 2), net.draw(5), strides=[2, 2])
    after = apply(CHANGE, imported(net, net("Relu", y), net("Tanh", y), steps=BEFORE))
    (layer,) = find_layers(Definitions(after["main"]))
    assert layer.activation == "none"
    assert calls_of(after).count("probq.activation") == 2


def test_a_sum_along_the_width_is_no_bias(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 4, 4)
    y = net("ConvTranspose", "x", net.draw(3, 8, 2, 2), strides=[2, 2])
    net("Add", y, net.draw(1, 1, 1, 8))
    (layer,) = find_layers(Definitions(apply(CHANGE, imported(net, steps=BEFORE))["main"]))
    assert not layer.bias.any()


def test_weights_that_vary_stay(unchanged: Any) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    w = relax.Var("w", relax.TensorType((3, 5, 2, 2), "float32"))
    with builder.function("main", [x, w]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.nn.conv2d_transpose(x, w, strides=(2, 2)))
        builder.emit_func_output(out)
    unchanged(CHANGE, builder.finalize())
