"""What only float layers read is not stored as codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.ir.expressions import shape_of
from tvm_probq.passes.leave_float import LeaveFloat
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator


def skipping(mod: Any, *names: str) -> Plan:
    """The plan in which these layers are float, or all but those after ``"-"``."""
    if names[0] == "-":
        names = tuple(n for n in marked_tensors(mod) if n not in names[1:])
    return plan_of("w8a8").override(names, mode="float")


def kinds(mod: Any) -> dict[str, str]:
    return {name: m.kind for name, m in marked_tensors(mod).items()}


def test_a_plan_without_float_layers(annotated_net: Any, unchanged: Any) -> None:
    unchanged(LeaveFloat(plan_of("w8a8")), annotated_net[0])


def test_a_layer_between_integer_ones_keeps_its_marker(annotated_net: Any, unchanged: Any) -> None:
    mod, _ = annotated_net
    unchanged(LeaveFloat(skipping(mod, "conv2d_1")), mod)


def test_the_first_layers_and_their_input(annotated_net: Any, apply: Any) -> None:
    mod, _ = annotated_net
    # The residual joins conv2d_2, so it is still stored.
    after = kinds(apply(LeaveFloat(skipping(mod, "conv2d_0", "conv2d_1")), mod))
    assert "x" not in after
    assert set(kinds(mod)) - set(after) == {"x"}
    after = kinds(apply(LeaveFloat(skipping(mod, "conv2d_0", "conv2d_1", "conv2d_2")), mod))
    assert set(kinds(mod)) - set(after) == {"x", "conv2d_0", "conv2d_1"}


def test_one_layer_alone(annotated_net: Any, apply: Any) -> None:
    mod, _ = annotated_net
    names = [n for n, m in marked_tensors(mod).items() if m.layer is not None]
    for name in names:
        left = kinds(apply(LeaveFloat(skipping(mod, "-", name)), mod))
        stored = [n for n in names if n in left]
        assert name in stored
        assert len(stored) <= 3  # its input, its residual and its output


def test_no_layer_at_all(annotated_net: Any, apply: Any) -> None:
    mod, _ = annotated_net
    assert kinds(apply(LeaveFloat(skipping(mod, "-")), mod)) == {}


@pytest.mark.parametrize("name", ["conv2d_0", "conv2d_2", "conv2d_3", "dense_5"])
def test_the_rest_of_the_pipeline(annotated_net: Any, name: str) -> None:
    mod, record = annotated_net
    x = np.random.default_rng(3).normal(size=shape_of(mod["main"].params[0])).astype(np.float32)
    exact = Simulator(mod)(x)
    errors = []
    for plan in (skipping(mod, name), skipping(mod, "-", name), skipping(mod, "-")):
        integer = tvm.transform.Sequential(quantize_passes(plan, record))(mod)
        errors.append(float(np.abs(Simulator(integer)(x) - exact).max()))
    assert errors[0] < 0.1 * np.abs(exact).max()
    assert 0 < errors[1] < 0.1 * np.abs(exact).max()
    assert errors[2] < 1e-5


def test_attention(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(4, 6)
    wide = [net("MatMul", "x", net.constant(net.draw(6, 6))) for _ in range(2)]
    turned = net("Transpose", wide[1], perm=[0, 2, 1])
    net("MatMul", net("MatMul", wide[0], turned), net.constant(net.draw(4, 5)))
    mod = imported(net, steps=None)
    pair = next(n for n, m in marked_tensors(mod).items() if m.kind == "matmul")
    dense = [n for n, m in marked_tensors(mod).items() if m.layer is not None]
    assert set(kinds(apply(LeaveFloat(skipping(mod, "-", pair)), mod))) == {pair, *dense[:2]}
    assert pair not in kinds(apply(LeaveFloat(skipping(mod, pair, dense[2])), mod))
