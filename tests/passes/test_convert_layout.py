"""Convolutions and what lies between them become channels last."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.rewrite import bindings
from tvm_probq.passes.convert_layout import ConvertLayout

CHANGE = ConvertLayout()
BEFORE = 5  # canonical passes that come first


def test_a_chain_keeps_two_transposes() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 4), "float32"), w: R.Tensor((8, 3, 3, 3), "float32")):
            with R.dataflow():
                lv = R.nn.conv2d(x, w, padding=[1, 1, 1, 1])
                lv1 = R.probq.activation(lv, kind="clip(0.0,inf)")
                gv = R.nn.max_pool2d(lv1, pool_size=[2, 2], strides=[2, 2])
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 4), "float32"), w: R.Tensor((8, 3, 3, 3), "float32")):
            with R.dataflow():
                w1 = R.permute_dims(w, axes=[0, 2, 3, 1])
                x1 = R.permute_dims(x, axes=[0, 2, 3, 1])
                lv = R.nn.conv2d(
                    x1, w1, padding=[1, 1, 1, 1], data_layout="NHWC", kernel_layout="OHWI"
                )
                lv1 = R.probq.activation(lv, kind="clip(0.0,inf)")
                lv2 = R.nn.max_pool2d(lv1, pool_size=[2, 2], strides=[2, 2], layout="NHWC")
                gv = R.permute_dims(lv2, axes=[0, 3, 1, 2])
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_without_images_nothing_changes(onnx_net: Any, imported: Any, unchanged: Any) -> None:
    net = onnx_net(8)
    net("Relu", net.gemm("x", 8, 4))
    unchanged(CHANGE, imported(net, steps=BEFORE))


def relu(net: Any, inputs: int = 3, outputs: int = 8) -> str:
    return net("Relu", net.conv("x", inputs, outputs))


def gate(net: Any) -> str:
    x = relu(net)
    return net("Mul", x, net("Sigmoid", net("GlobalAveragePool", x)))


def shuffle(net: Any, factors: list[int], axes: list[int]) -> str:
    split = net("Reshape", relu(net), [0, *factors, 7, 7])
    return net("Reshape", net("Transpose", split, perm=axes), [0, 8, 7, 7])


INSIDE = {
    "add": lambda n: n("Add", relu(n), relu(n)),
    "bias": lambda n: n("Add", relu(n), n.draw(8, 1, 1)),
    "scalar": lambda n: n("Mul", relu(n), [2.0]),
    "gate": gate,
    "concat": lambda n: n("Concat", relu(n), relu(n, 3, 4), axis=1),
    "concat_rows": lambda n: n("Concat", relu(n), relu(n), axis=2),
    "pad_spatial": lambda n: n("Pad", relu(n), [0, 0, 1, 2, 0, 0, 2, 1]),
    "pad_channel": lambda n: n("Pad", relu(n), [0, 2, 0, 0, 0, 1, 0, 0]),
    "slice": lambda n: n("Slice", relu(n), [0, 1], [4, 5], [1, 2]),
    "max_pool": lambda n: n("MaxPool", relu(n), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max_pool_ceil": lambda n: n(
        "MaxPool", relu(n), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
    ),
    "average_pool": lambda n: n("AveragePool", relu(n), kernel_shape=[2, 2], strides=[1, 2]),
    "global_pool": lambda n: n("GlobalAveragePool", relu(n)),
    "mean_of_channels": lambda n: n("ReduceMean", relu(n), axes=[1], keepdims=1),
    "shuffle": lambda n: shuffle(n, [2, 4], [0, 2, 1, 3, 4]),
    "shuffle_of_three": lambda n: shuffle(n, [2, 2, 2], [0, 3, 1, 2, 4, 5]),
    "resize": lambda n: n("Resize", relu(n), "", [1.0, 1, 2, 2], mode="linear"),
    "grouped": lambda n: n.conv(relu(n), 8, 12, group=4, dilations=[2, 2], pads=[2] * 4),
    "depthwise": lambda n: n.conv(relu(n), 8, 8, group=8, strides=[2, 2]),
}  # fmt: skip
COUNT = {"concat": 12, "slice": 4, "pad_channel": 11, "mean_of_channels": 1, "grouped": 12}


@pytest.mark.parametrize("name", INSIDE)
def test_between_convolutions_nothing_is_transposed(
    name: str, onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 7, 7)
    net.conv(INSIDE[name](net), COUNT.get(name, 8), 4, 1)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    values = [b.value for b in bindings(after["main"])]
    transposes = [v for v in values if is_call(v, "permute_dims") and len(v.attrs.axes) == 4]
    source = after["main"].params[0]
    # Only of the input and of the result; a shuffle permutes five or more axes.
    assert all(t.args[0].same_as(source) for t in transposes[:-1])
    assert list(transposes[-1].attrs.axes) == [0, 3, 1, 2]


@pytest.mark.parametrize("keep", [0, 1])
def test_pooled_vectors_need_no_transpose(
    keep: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 5, 5)
    pooled = net("ReduceMean", relu(net), axes=[-2, -1], keepdims=keep)
    net.gemm(net("Flatten", pooled) if keep else pooled, 8, 3)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 1


@pytest.mark.parametrize(("perm", "transposes"), [([0, 2, 1], 1), ([0, 1, 2], 3)])
def test_rows_of_positions_need_no_transpose(
    perm: list[int], transposes: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 5, 6)
    net("Relu", net("Transpose", net("Reshape", relu(net), [0, 8, -1]), perm=perm))
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == transposes


def test_global_pooling_of_the_input_is_channels_last(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 5, 5)
    net.conv(net("GlobalAveragePool", "x"), 3, 4, 1)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    (pool,) = [b.value for b in bindings(after["main"]) if is_call(b.value, "mean")]
    assert list(pool.attrs.axis) == [1, 2]


def test_flattened_images_go_back(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 5, 5)
    net.gemm(net("Flatten", relu(net)), 200, 3)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 2


@pytest.mark.parametrize(
    ("factors", "axes"), [([8, 1], [0, 1, 3, 2, 4]), ([2, 4], [0, 2, 1, 4, 3])]
)
def test_rows_and_columns_change_places(
    factors: list[int], axes: list[int], onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 7, 7)
    net.conv(shuffle(net, factors, axes), 8, 4, 1)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 3


@pytest.mark.parametrize(("op", "channels"), [("DepthToSpace", 2), ("SpaceToDepth", 32)])
def test_between_depth_and_space(
    op: str, channels: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 6, 6)
    net.conv(net(op, relu(net), blocksize=2), channels, 4)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 3


@pytest.mark.parametrize(("kernel", "name"), [([6, 6], "mean"), ([6, 5], "nn.avg_pool2d")])
def test_a_window_of_the_whole_image_is_global_pooling(
    kernel: list[int], name: str, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 6, 6)
    net("AveragePool", relu(net), kernel_shape=kernel)
    assert name in calls_of(apply(CHANGE, imported(net, steps=BEFORE)))


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 2, 1]])
def test_two_permutations_are_one_or_none(
    perm: list[int], onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 6, 6)
    net("Transpose", net("Transpose", relu(net), perm=perm), perm=[0, 3, 1, 2])
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 2


def test_a_permutation_across_samples_is_no_shuffle(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 6, 6)
    split = net("Reshape", relu(net), [0, 2, 4, 6, 6])
    net("Reshape", net("Transpose", split, perm=[1, 0, 2, 3, 4]), [2, 4, 6, 6])
    after = apply(CHANGE, imported(net, steps=BEFORE, batch=1))
    assert calls_of(after).count("permute_dims") == 3


def test_a_transpose_to_channels_last_is_none(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 5, 5)
    net("Relu", net("Transpose", relu(net), perm=[0, 2, 3, 1]))
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after).count("permute_dims") == 1


def test_two_outputs(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 5, 5)
    first = relu(net)
    second = net.conv(first, 8, 4)
    apply(CHANGE, imported(net, first, second, steps=BEFORE))
