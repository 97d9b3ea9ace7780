"""Products over many positions become those of images of one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions, find_layers, is_global_pool
from tvm_probq.passes.lift_products import LiftProducts

CHANGE = LiftProducts()
BEFORE = -5  # all canonical passes come first, but for this one and the last four


def test_a_product_over_positions() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3, 2), "float32")):
            with R.dataflow():
                lv = R.matmul(x, R.const([[1, 2], [3, 4]], "float32"))
                gv = R.add(lv, R.const([5, 6], "float32"))
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3, 2), "float32")):
            with R.dataflow():
                x1 = R.reshape(x, R.shape([2, 1, 3, 2]))
                lv = R.nn.conv2d(
                    x1, R.const([[[[1, 3]]], [[[2, 4]]]], "float32"),
                    data_layout="NHWC", kernel_layout="OHWI",
                )  # fmt: skip
                lv1 = R.add(lv, R.const([5, 6], "float32"))
                gv = R.reshape(lv1, R.shape([2, 3, 2]))
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_plain_product_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                gv = R.matmul(x, R.const([[1.0], [2.0], [3.0]], "float32"))
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def dense(net: Any, x: str, inputs: int, outputs: int) -> str:
    product = net("MatMul", x, net.draw(inputs, outputs, scale=inputs**-0.5))
    return net("Add", product, net.draw(outputs))


def feed_forward(net: Any) -> str:
    return dense(net, net("Relu", dense(net, "x", 8, 16)), 16, 8)


def residual(net: Any) -> str:
    return net("Add", "x", feed_forward(net))


def one_dimensional(net: Any) -> str:
    x = net("Conv", "x", net.draw(8, 6, 3, scale=0.2), net.draw(8), pads=[1, 1])
    x = net("Relu", net("Add", x, net("Conv", "x", net.draw(8, 6, 1, scale=0.4))))
    return net("Conv", x, net.draw(4, 8, 5, scale=0.2), strides=[2], dilations=[1])


def pooled(net: Any) -> str:
    x = net("MaxPool", one_dimensional(net), kernel_shape=[2], strides=[2])
    x = net("Conv", x, net.draw(4, 4, 1), net.draw(4))
    return net("GlobalAveragePool", net("AveragePool", x, kernel_shape=[2], pads=[1, 0]))


def scored(net: Any) -> str:
    return net("ReduceMean", feed_forward(net), axes=[1], keepdims=0)


def attention(net: Any) -> str:
    query, key, value = (dense(net, "x", 8, 8) for _ in range(3))
    scores = net("MatMul", query, net("Transpose", key, perm=[0, 2, 1]))
    return net("MatMul", net("Softmax", scores, axis=-1), value)


@pytest.mark.parametrize(
    ("make", "shape", "layers"),
    [
        (feed_forward, (6, 8), [(False, True), (False, False)]),
        (feed_forward, (2, 3, 8), [(False, True), (False, False)]),
        (feed_forward, (2, 3, 2, 8), [(False, True), (False, False)]),
        (residual, (6, 8), [(False, True), (True, False)]),
        (one_dimensional, (6, 20), [(False, False), (True, True), (False, False)]),
        (attention, (6, 8), [(False, False)] * 3),
        (pooled, (6, 20), [(False, False), (True, True), (False, False), (False, False)]),
        (scored, (6, 8), [(False, True), (False, False)]),
    ],
)
def test_layers_are_whole(
    make: Any, shape: tuple[int, ...], layers: list[tuple[bool, bool]], onnx_net: Any,
    imported: Any, apply: Any,
) -> None:  # fmt: skip
    net = onnx_net(*shape)
    make(net)
    after = apply(CHANGE, imported(net, steps=BEFORE, batch=2))
    found = find_layers(Definitions(after["main"]))
    assert [(x.residual is not None, x.activation != "none") for x in found] == layers
    assert all(is_call(x.product, "nn.conv2d") for x in found)


def test_a_product_with_a_matrix_a_head_stays_float(onnx_net: Any, imported: Any) -> None:
    net = onnx_net(4, 6, 8)
    net("MatMul", "x", net.draw(4, 8, 3))
    after = imported(net, steps=None)
    assert not find_layers(Definitions(after["main"]))


def test_a_table_is_no_bias(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(6, 8)
    net("Add", dense(net, "x", 8, 8), np.ones((1, 6, 8), np.float32))
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert [x.residual for x in find_layers(Definitions(after["main"]))] == [None]


@pytest.mark.parametrize("make", [pooled, scored])
def test_pools_are_those_of_images(make: Any, onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(6, 20 if make is pooled else 8)
    make(net)
    calls = Definitions(apply(CHANGE, imported(net, steps=BEFORE))["main"]).order
    assert sum(is_global_pool(c) for c in calls) == 1
    assert not any(is_call(c, "nn.max_pool1d", "nn.avg_pool1d") for c in calls)
