"""Channels that are always zero repeat others, and both carry half the range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions, find_layers
from tvm_probq.passes.split_ranges import SplitRanges
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.simulator.numerics import dequantize, make_qparams, quantize

BEFORE = -3  # all canonical passes come first, but for this one and the annotations
ZERO = [1, 4]


def make(onnx_net: Any, change: str = "") -> Any:
    """Six channels, two of them always zero, through a depthwise layer to one that sums them."""
    net = onnx_net(3, 8, 8)
    weights, bias = net.draw(6, 3, 3, 3), net.draw(6)
    weights[ZERO] *= 1e-6 if change == "awake" else 1e-9
    bias[ZERO] = 0.0 if change == "awake" else -0.3
    x = net("Conv", "x", net.constant(weights), net.constant(bias), pads=[1] * 4)
    x = clip(net, x, "Relu" if change == "open" else "Clip")
    first = x
    deep, offset = net.draw(6, 1, 3, 3, scale=2.0), net.draw(6) + 1.0
    x = net("Conv", x, net.constant(deep), net.constant(offset), pads=[1] * 4, group=6)
    x = clip(net, x, "Relu" if change == "unbounded" else "Clip")
    if change == "read twice":
        x = net("Add", x, first)
    kernel = 3 if change == "wide" else 1
    if change == "no bias":
        return net, net("Conv", x, net.constant(net.draw(5, 6, 1, 1)))
    return net, net.conv(x, 6, 5, kernel)


def clip(net: Any, x: str, kind: str) -> str:
    if kind == "Relu":
        return str(net("Relu", x))
    return str(net("Clip", x, net.constant(0.0), net.constant(6.0)))


def activations(mod: Any, x: Any) -> list[Any]:
    found = []

    def watch(call: Any, value: Any, _args: Any) -> None:
        if is_call(call, "probq.activation"):
            found.append(value)

    Simulator(mod)(x, watch=watch)
    return found


@pytest.mark.parametrize("change", ["", "open"])
def test_zero_channels_take_half_the_range(
    change: str, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    mod = imported(make(onnx_net, change)[0], steps=BEFORE)
    after = apply(SplitRanges(), mod)
    assert calls_of(after) == calls_of(mod)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32) * 2
    (_, before), (first, now) = activations(mod, x), activations(after, x)
    assert (first.max((0, 1, 2)) > 0).all()
    pairs = [
        (zero, channel)
        for zero in ZERO
        for channel in range(6)
        if np.allclose((now[..., zero] + now[..., channel]) / 2, before[..., channel], atol=1e-4)
    ]
    assert sorted(z for z, _ in pairs) == ZERO
    assert len({c for _, c in pairs}) == 2
    for zero, channel in pairs:
        assert np.isclose(now[..., zero][now[..., channel] < 6], 0, atol=1e-4).all()


def test_storing_loses_less(onnx_net: Any, imported: Any) -> None:
    mod = imported(make(onnx_net)[0], steps=BEFORE)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32) * 2
    qparams = make_qparams(np.zeros((1, 1)), np.full((1, 1), 6.0), 255)
    lost = []
    for module in (mod, SplitRanges()(mod)):
        stored = activations(module, x)[1]
        weights = find_layers(Definitions(module["main"]))[-1].weights[:, 0, 0, :].T
        noise = (dequantize(quantize(stored, qparams), qparams) - stored) @ weights
        lost.append(float(np.square(noise).mean()))
    assert lost[1] < 0.8 * lost[0]


@pytest.mark.parametrize("change", ["awake", "unbounded", "read twice", "wide", "no bias"])
def test_what_stays(change: str, onnx_net: Any, imported: Any, unchanged: Any) -> None:
    net, y = make(onnx_net, change)
    unchanged(SplitRanges(), imported(net, y, steps=BEFORE))


def test_a_chain_is_split_once(onnx_net: Any, imported: Any, apply: Any) -> None:
    net, y = make(onnx_net)
    z = clip(net, y, "Clip")
    z = clip(net, net.conv(z, 5, 5, group=5), "Clip")
    net.conv(z, 5, 4, 1)
    apply(SplitRanges(), imported(net, steps=BEFORE))
