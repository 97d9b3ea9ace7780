"""A layer writes over a residual that nothing reads again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tvm

from tvm_probq.passes.lower_layers import LowerLayers
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.passes.reuse_residuals import ReuseResiduals
from tvm_probq.plan.plan import plan_of

CHANGE = ReuseResiduals()


@pytest.fixture(scope="module")
def lowered(imported: Any, calibrated: Any, target: Any) -> Callable[..., Any]:
    """The function that lowers an ONNX graph in static mode."""

    def make(net: Any, *outputs: str) -> Any:
        mod = imported(net, *outputs, steps=None)
        passes = [*quantize_passes(plan_of("w8a8s"), calibrated(mod)), LowerLayers(target)]
        return tvm.transform.Sequential(passes)(mod)

    return make


def block(net: Any, x: str) -> str:
    """Two convolutions around a residual."""
    inner = net.conv(net("Relu", net.conv(x, 8, 8)), 8, 8)
    return net("Relu", net("Add", inner, x))


def test_a_dying_residual(onnx_net: Any, lowered: Any, calls_of: Any) -> None:
    net = onnx_net(3, 6, 6)
    net.conv(block(net, net("Relu", net.conv("x", 3, 8))), 8, 4)
    after = CHANGE(lowered(net))
    tvm.relax.analysis.well_formed(after)
    assert calls_of(after).count("call_tir_inplace") == 1
    tvm.ir.assert_structural_equal(CHANGE(after), after)


def test_a_residual_that_is_read_again(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 6, 6)
    x = net("Relu", net.conv("x", 3, 8))
    net.conv(net("Concat", block(net, x), x, axis=1), 16, 4)
    unchanged(CHANGE, lowered(net))


def test_a_residual_that_the_product_reads(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 6, 6)
    x = net("Relu", net.conv("x", 3, 8))
    net.conv(net("Relu", net("Add", net.conv(x, 8, 8), x)), 8, 4)
    unchanged(CHANGE, lowered(net))


def test_a_residual_that_a_view_still_shows(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 1, 1)
    x = net("Relu", net.conv("x", 3, 8))
    view = net("Flatten", x)
    first = net.gemm(view, 8, 4)
    wide = net.conv(block(net, x), 8, 4)
    unchanged(CHANGE, lowered(net, first, wide, net.gemm(view, 8, 4)))


def test_without_residuals(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 6, 6)
    net.conv(net("Relu", net.conv("x", 3, 8)), 8, 4)
    unchanged(CHANGE, lowered(net))


def gated(net: Any, x: str) -> str:
    """`x` times a gate made of it."""
    gate = net.conv(net("GlobalAveragePool", x), 8, 8, 1)
    return net("Mul", x, net("HardSigmoid", gate, alpha=1 / 6, beta=0.5))


def test_a_product_over_its_dying_factor(onnx_net: Any, lowered: Any, calls_of: Any) -> None:
    net = onnx_net(3, 6, 6)
    net.conv(gated(net, net("Relu", net.conv("x", 3, 8))), 8, 4)
    before = lowered(net)
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    assert calls_of(before).count("probq.multiply") == 1
    assert "probq.multiply" not in calls_of(after)
    assert calls_of(after).count("call_tir_inplace") == 1
    tvm.ir.assert_structural_equal(CHANGE(after), after)


def test_a_factor_that_is_read_again(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 6, 6)
    x = net("Relu", net.conv("x", 3, 8))
    net.conv(net("Concat", gated(net, x), x, axis=1), 16, 4)
    unchanged(CHANGE, lowered(net))


def test_reals_are_not_written_over_codes(onnx_net: Any, lowered: Any, unchanged: Any) -> None:
    net = onnx_net(3, 6, 6)
    x = net("Relu", net.conv("x", 3, 8))
    y = net("Add", net.conv(net("Relu", net.conv(x, 8, 8)), 8, 8), x)
    net("Sin", y)
    unchanged(CHANGE, lowered(net))
