"""Batch normalization at inference becomes a scaled convolution and a bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.passes.fold_batch_norm import FoldBatchNorm

CHANGE = FoldBatchNorm()
BEFORE = 3  # canonical passes that come first


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 4, 8])
def test_behind_a_convolution(
    bias: bool, group: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(8, 5, 5)
    net.batch_norm(net.conv("x", 8, 8, group=group, bias=bias), 8)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["nn.conv2d", "add"]


def test_statistics_behind_other_nodes(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 4, 4)
    x = net.conv("x", 3, 8)
    gamma = net("Identity", net.constant(net.rng.uniform(0.5, 1.5, 8)))
    net(
        "BatchNormalization",
        x,
        gamma,
        *(net("Reshape", net.draw(8, 1) ** 2, [8]) for _ in range(3)),
    )
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["nn.conv2d", "add"]


def test_behind_another_operator(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(8, 4, 4)
    net.batch_norm(net("Relu", "x"), 8)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["nn.relu", "nn.conv2d", "add"]


def test_of_the_input(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(8, 4, 4)
    net.batch_norm("x", 8)
    assert calls_of(apply(CHANGE, imported(net, steps=BEFORE))) == ["multiply", "add"]


def test_of_vectors(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(8)
    net.batch_norm(net("Relu", net.batch_norm(net.gemm("x", 8, 4), 4)), 4)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["matmul", "add", "nn.relu", "multiply", "add"]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("rank", [1, 2])
def test_behind_other_convolutions(
    op: str, group: int, rank: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(4, *[7] * rank)
    weights = net.draw(4, 4 // group, *[3] * rank)
    net.batch_norm(net(op, "x", weights, net.draw(4), group=group), 4)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    name = f"nn.conv{rank}d" + "_transpose" * (op == "ConvTranspose")
    assert calls_of(after) == [name, "add"]


@pytest.mark.parametrize("bias", [False, True])
def test_a_scale_of_channels(
    bias: bool, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(6, 8)
    y = net("MatMul", "x", net.draw(8, 4))
    y = net("Add", y, net.draw(4)) if bias else y
    net("Mul", net.draw(4), y)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["matmul", *["add"] * bias]


@pytest.mark.parametrize("scale", [2.0, np.ones((6, 1)), np.ones((1, 6, 4))])
def test_other_scales_stay(
    scale: Any, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(6, 8)
    net("Mul", net("MatMul", "x", net.draw(8, 4)), np.float32(scale))
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["matmul", "multiply"]


def test_a_convolution_with_a_second_reader(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 4, 4)
    shared = net.conv("x", 3, 8, bias=False)
    other = net("Relu", shared)
    after = apply(CHANGE, imported(net, net.batch_norm(shared, 8), other, steps=BEFORE))
    assert calls_of(after).count("nn.conv2d") == 2
    assert "multiply" not in calls_of(after)


def test_a_bias_along_the_width_is_no_channel_bias(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 8, 8)
    net.batch_norm(net("Add", net.conv("x", 3, 8, bias=False), net.draw(1, 1, 1, 8)), 8)
    after = apply(CHANGE, imported(net, steps=BEFORE))
    assert calls_of(after) == ["nn.conv2d", "add", "nn.conv2d", "add"]


def test_nothing_to_fold(onnx_net: Any, imported: Any, unchanged: Any) -> None:
    net = onnx_net(3, 4, 4)
    net("Relu", net.conv("x", 3, 8))
    unchanged(CHANGE, imported(net, steps=BEFORE))


def test_statistics_of_the_batch_are_not_folded(
    onnx_net: Any, imported: Any, unchanged: Any
) -> None:
    net = onnx_net(3, 4, 4)
    x, ones = net.conv("x", 3, 8), np.ones(8)
    net("BatchNormalization", x, ones, ones, ones, ones, training_mode=1, outputs=3)
    unchanged(CHANGE, imported(net, steps=BEFORE))
