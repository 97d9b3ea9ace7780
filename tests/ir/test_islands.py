"""Which operators stay float together, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.build.compile import quantized
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import load_model
from tvm_probq.ir import islands
from tvm_probq.ir.islands import Island, float_islands
from tvm_probq.ir.macs import float_macs
from tvm_probq.plan.plan import plan_of


@pytest.fixture
def compiled_islands(tmp_path: Path) -> Any:
    """The function that gives a network's islands, and its multiply-accumulates left in float."""

    def make(net: Any, *shape: int, skip: tuple[str, ...] = ()) -> tuple[tuple[Island, ...], int]:
        model = load_model(net.save(tmp_path))
        samples = np.random.default_rng(0).normal(size=(4, 1, *shape)).astype(np.float32)
        record = collect(model.mod, samples, CalibrationRecord(model.sha256, ""))
        integer = quantized(model, plan_of("w8a8").override(skip, mode="float"), record)
        return float_islands(integer), float_macs(integer)

    return make


def dense(net: Any, x: str, inputs: int, outputs: int) -> str:
    return net("MatMul", x, net.draw(inputs, outputs, scale=0.3))


def normalized(net: Any, x: str) -> str:
    return net("LayerNormalization", x, np.ones(8), np.zeros(8))


def root_mean_square(net: Any, x: str) -> str:
    mean = net("ReduceMean", net("Mul", x, x), axes=[-1])
    return net("Div", x, net("Sqrt", net("Add", mean, np.float32(1e-5))))


MIDDLES = {
    "normalization": (normalized, islands.NORMALIZED),
    "root mean square": (root_mean_square, islands.NORMALIZED),
    "softmax": (lambda n, x: n("Softmax", x), islands.EXPONENTIAL),
    "both": (
        lambda n, x: n("Softmax", normalized(n, x)),
        f"{islands.NORMALIZED}; {islands.EXPONENTIAL}",
    ),
    "gates": (lambda n, x: n("Mul", x, dense(n, "x", 8, 8)), islands.ONCE),
    "sine": (lambda n, x: n("Sin", x), f"sin has {islands.NO_FORM}"),
    "several": (lambda n, x: n("Cos", n("Sin", x)), f"sin, cos have {islands.NO_FORM}"),
    "batched weights": (
        lambda n, x: n("MatMul", x, n.draw(1, 8, 8)), islands.BATCHED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_reasons(name: str, onnx_net: Any, compiled_islands: Any) -> None:
    middle, reason = MIDDLES[name]
    net = onnx_net(6, 8)
    dense(net, middle(net, dense(net, "x", 8, 8)), 8, 4)
    (island,), left = compiled_islands(net, 6, 8)
    assert island.reason == reason
    assert island.macs == left == (6 * 8 * 8 if reason == islands.BATCHED else 0)


def test_repeated_weights_are_a_recurrence(onnx_net: Any, compiled_islands: Any) -> None:
    net = onnx_net(6, 8)
    x, weights = dense(net, "x", 8, 8), net.constant(net.draw(1, 8, 8, scale=0.3))
    state = net("Tanh", net("MatMul", net("Tanh", net("MatMul", x, weights)), weights))
    dense(net, state, 8, 4)
    (island,), left = compiled_islands(net, 6, 8)
    assert island.reason == islands.RECURRENT
    assert island.macs == left == 2 * 6 * 8 * 8


def test_layers_that_the_plan_leaves_float(onnx_net: Any, compiled_islands: Any) -> None:
    net = onnx_net(6, 8)
    dense(net, dense(net, dense(net, "x", 8, 8), 8, 8), 8, 4)
    (island,), left = compiled_islands(net, 6, 8, skip=("MatMul_0", "MatMul_1"))
    assert island.reason == islands.PLANNED
    assert island.macs == left == 2 * 6 * 8 * 8


def test_behind_the_last_layer(onnx_net: Any, compiled_islands: Any) -> None:
    net = onnx_net(6, 8)
    net("Sin", dense(net, "x", 8, 4))
    (island,), _ = compiled_islands(net, 6, 8)
    assert (island.name, island.operators, island.reason) == ("sin", ("sin",), islands.LAST)


def test_moves_alone_are_no_island(onnx_net: Any, compiled_islands: Any) -> None:
    net = onnx_net(6, 8)
    net("Transpose", dense(net, "x", 8, 4), perm=[0, 2, 1])
    assert compiled_islands(net, 6, 8) == ((), 0)


def test_two_islands_are_apart(onnx_net: Any, compiled_islands: Any) -> None:
    net = onnx_net(6, 8)
    y = normalized(net, dense(net, "x", 8, 8))
    dense(net, net("Softmax", dense(net, y, 8, 8)), 8, 4)
    found, _ = compiled_islands(net, 6, 8)
    assert [i.name for i in found] == ["nn_layer_norm", "nn_softmax"]
