"""Channels of tensors that depthwise layers read are scaled, and scaled back."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.equalization import HEADROOM, LARGEST_FACTOR, factors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import is_call
from tvm_probq.passes.equalize_channels import EqualizeChannels
from tvm_probq.simulator.interpreter import Simulator

GAINS = np.array([1.0, 0.5, 0.1, 0.003])


def make(onnx_net: Any, activation: str, *, pool: bool = False, residual: bool = False) -> Any:
    """Four channels of unlike size, which a depthwise layer reads."""
    net = onnx_net(3, 8, 8)
    weights = net.draw(4, 3, 3, 3) * GAINS.reshape(-1, 1, 1, 1)
    x = net("Conv", "x", net.constant(weights), net.constant(net.draw(4) * GAINS), pads=[1] * 4)
    if residual:
        x = net("Add", x, net.conv("x", 3, 4))
    if activation == "Clip":
        x = net("Clip", x, net.constant(0.0), net.constant(6.0))
    elif activation:
        x = net(activation, x)
    y = net.conv(x, 4, 4, group=4)
    if pool:
        y = net("Add", y, net("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4))
    net.conv(y, 4, 5, 1)
    return net


def largest(mod: Any) -> Any:
    """Largest magnitude of each channel in front of the depthwise layer."""
    seen = {}

    def watch(call: Any, value: Any, _args: Any) -> None:
        if is_call(call, "probq.layer") and value.ndim == 4:
            seen[str(call.attrs["name"])] = np.abs(value).max((0, 1, 2))

    Simulator(mod)(
        np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32), watch=watch
    )
    return seen["conv2d_0"]


@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
def test_channels_use_the_same_range(
    activation: str, onnx_net: Any, imported: Any, calibrated: Any, apply: Any, calls_of: Any
) -> None:
    mod = imported(make(onnx_net, activation), steps=None)
    # A clip of equalized channels binds earlier, on inputs beyond calibration.
    after = apply(EqualizeChannels(calibrated(mod)), mod, numeric=activation != "Clip")
    assert calls_of(after) == calls_of(mod)
    before, now = largest(mod), largest(after)
    assert now[:3].min() > 0.5 * now.max()
    assert np.isclose(now[3] / before[3], LARGEST_FACTOR, rtol=1e-5)


@pytest.mark.parametrize(
    "net", [{"activation": "HardSwish"}, {"activation": "Relu", "pool": True},
            {"activation": "Relu", "residual": True}],
)  # fmt: skip
def test_what_cannot_be_scaled(
    net: Any, onnx_net: Any, imported: Any, calibrated: Any, unchanged: Any
) -> None:
    mod = imported(make(onnx_net, **net), steps=None)
    unchanged(EqualizeChannels(calibrated(mod)), mod)


def gated(onnx_net: Any, *, others: bool = False) -> Any:
    """A unit whose gate is a branch of its own; `others` read the product too."""
    net = onnx_net(6, 8)
    gains = net.constant(np.geomspace(0.02, 1, 12).astype(np.float32))
    gate = net("Sigmoid", net("MatMul", "x", net.constant(net.draw(8, 12))))
    wide = net("MatMul", "x", net("Mul", net.constant(net.draw(8, 12)), gains))
    product = net("Mul", gate, net("Add", wide, net.constant(net.draw(12) * 0.1)))
    y = net("MatMul", product, net.constant(net.draw(12, 5)))
    if others:
        net("Add", y, net("ReduceMean", product, axes=[2], keepdims=1))
    return net


def normalized(onnx_net: Any) -> Any:
    """A normalization with gains of unlike size, and two layers behind it."""
    net = onnx_net(6, 8)
    square = net("ReduceMean", net("Mul", "x", "x"), axes=[2], keepdims=1)
    x = net("Div", "x", net("Sqrt", net("Add", square, net.constant(1e-5))))
    x = net("Mul", x, net.constant(np.geomspace(0.02, 1, 8).astype(np.float32)))
    a, b = (net("MatMul", x, net.constant(net.draw(8, 5))) for _ in range(2))
    net("Add", a, b)
    return net


@pytest.mark.parametrize("build", [gated, normalized])
def test_products_in_front_of_layers(
    build: Any, onnx_net: Any, imported: Any, calibrated: Any, apply: Any, calls_of: Any
) -> None:
    mod = imported(build(onnx_net), steps=None)
    record = calibrated(mod)
    found = {name: t.factor for name, t in record.tensors.items() if t.factor.size}
    assert len(found) == 1
    ((name, factor),) = found.items()
    assert factor.max() > 2
    after = apply(EqualizeChannels(record), mod)
    assert calls_of(after) == calls_of(mod)
    ends = []
    for module in (mod, after):
        seen = {}

        def watch(call: Any, value: Any, _args: Any, seen: Any = seen) -> None:
            if is_call(call, "probq.layer") and str(call.attrs["name"]) == name:
                seen[name] = np.abs(value).reshape(-1, value.shape[-1]).max(0)

        x = np.random.default_rng(1).normal(size=(1, 6, 8)).astype(np.float32)
        Simulator(module)(x, watch=watch)
        ends.append(seen[name])
    assert np.allclose(ends[1] / ends[0], factor, rtol=1e-4)
    assert np.ptp(np.log(ends[1])) < 0.6 * np.ptp(np.log(ends[0]))


def test_a_product_that_others_read(
    onnx_net: Any, imported: Any, calibrated: Any, unchanged: Any
) -> None:
    mod = imported(gated(onnx_net, others=True), steps=None)
    unchanged(EqualizeChannels(calibrated(mod)), mod)


def test_a_record_without_factors(onnx_net: Any, imported: Any, unchanged: Any) -> None:
    mod = imported(make(onnx_net, "Relu"), steps=None)
    rng = np.random.default_rng(1)
    data = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
    record = collect(mod, data, CalibrationRecord("", "", equalize=False))
    unchanged(EqualizeChannels(record), mod)
    assert not CalibrationRecord.from_text(json.dumps(saved(record))).equalize


def saved(record: CalibrationRecord) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        record.save(path)
        return json.loads(path.read_text())


def test_no_depthwise_layer(annotated_net: Any, unchanged: Any) -> None:
    mod, record = annotated_net
    unchanged(EqualizeChannels(record), mod)


def test_factors() -> None:
    expected = [1, 2 / HEADROOM, 1, LARGEST_FACTOR]
    assert np.allclose(factors(np.array([4.0, 2.0, 0.0, 0.01])), expected)
    assert factors(np.zeros(2)).tolist() == [1, 1]
