"""Weights of quantized layers become codes and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.ir.expressions import constant_value, is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.passes.quantize_weights import QuantizeWeights
from tvm_probq.plan.plan import LayerPlan, Plan, plan_of


def weights(mod: Any) -> list[Any]:
    """The calls that dequantize weights."""
    order = Definitions(mod["main"]).order
    return [c for c in order if is_call(c, "probq.dequantize_weight")]


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_codes_fit_their_bits(bits: int, annotated_net: Any, apply: Any) -> None:
    mod, record = annotated_net
    after = apply(QuantizeWeights(plan_of(f"w{bits}a8"), record), mod, numeric=False)
    assert len(weights(after)) == 6
    for call in weights(after):
        codes = constant_value(call.args[0])
        assert codes.dtype == np.int8
        assert np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1
        assert int(call.attrs["bits"]) == bits
        assert constant_value(call.args[1]).shape == (codes.shape[int(call.attrs["axis"])],)


def test_eight_bits_are_close(annotated_net: Any) -> None:
    from tvm_probq.simulator.interpreter import Simulator

    mod, record = annotated_net
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want = Simulator(mod)(x)
    got = Simulator(QuantizeWeights(plan_of("w8a8", correction="none"), record)(mod))(x)
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_static_correction_adds_a_bias(annotated_net: Any, calls_of: Any) -> None:
    mod, record = annotated_net
    adds = {
        correction: calls_of(
            QuantizeWeights(plan_of("w4a8", correction=correction), record)(mod)
        ).count("add")
        for correction in ("none", "static", "predicted")
    }
    assert adds["static"] == adds["none"] + 6
    # What rounding the correction's own constants loses at the calibration means.
    assert adds["predicted"] == adds["static"]


def test_static_correction_restores_the_mean(annotated_net: Any) -> None:
    from tvm_probq.simulator.interpreter import Simulator

    mod, record = annotated_net
    rng = np.random.default_rng(1)  # the calibration samples
    samples = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(4)]

    def error(correction: str) -> float:
        after = QuantizeWeights(plan_of("w4a8", correction=correction), record)(mod)
        first = [{}, {}]

        def watcher(store: Any) -> Any:
            def watch(call: Any, value: Any, args: Any) -> None:
                if is_call(call, "probq.layer") and str(call.attrs["name"]) == "conv2d_5":
                    store.setdefault("values", []).append(value.mean((0, 1, 2)))

            return watch

        for store, module in zip(first, (mod, after), strict=True):
            for x in samples:
                Simulator(module)(x, watch=watcher(store))
        a, b = (np.mean(store.get("values", [[0]]), axis=0) for store in first)
        return float(np.abs(a - b).max())

    assert error("static") <= error("none")


def test_float_layers_keep_their_weights(annotated_net: Any) -> None:
    mod, record = annotated_net
    plan = Plan(layers={"conv2d_0": LayerPlan(mode="float")})
    assert len(weights(QuantizeWeights(plan, record)(mod))) == 5


def test_mode_float_changes_nothing(annotated_net: Any, unchanged: Any) -> None:
    mod, record = annotated_net
    unchanged(QuantizeWeights(plan_of("w8a8", "float"), record), mod)
