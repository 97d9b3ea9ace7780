"""Bias, correction, residual and activation fold into the requantization."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq import ops
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.passes.insert_requantize import InsertRequantize
from tvm_probq.passes.insert_surrogates import InsertSurrogates
from tvm_probq.passes.quantize_weights import QuantizeWeights
from tvm_probq.passes.widen_accumulators import WidenAccumulators
from tvm_probq.plan.plan import Plan, plan_of

CHANGE = InsertRequantize()


def before(annotated_net: Any, plan: Plan) -> Any:
    """The module after the passes that come first."""
    mod, record = annotated_net
    passes = [InsertSurrogates(plan, record), QuantizeWeights(plan, record), WidenAccumulators()]
    return tvm.transform.Sequential(passes)(mod)


def test_the_whole_tail() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            acc: R.Tensor((1, 2), "int32"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"), r: R.Tensor((1, 2), "uint8"),
            shift: R.Tensor((1, 2), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                a = R.probq.dequantize_accumulator(
                    acc, p, R.const([0.5, 1.0], "float32"), R.const([5, 7], "int32"),
                    R.const([0.0, 0.0], "float32"),
                    activation="none", has_correction=0, has_residual=0,
                )  # fmt: skip
                b = R.add(a, R.reshape(shift, R.shape([1, 2])))
                c = R.add(b, R.const([1.0, 2.0], "float32"))
                d = R.add(R.probq.dequantize(r, p), c)
                e = R.probq.activation(d, kind="clip(0.0,inf)")
                gv = R.probq.quantize(e, yp, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            acc: R.Tensor((1, 2), "int32"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"), r: R.Tensor((1, 2), "uint8"),
            shift: R.Tensor((1, 2), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                gv = R.probq.requantize(
                    acc, p, yp, R.const([0.5, 1.0], "float32"), R.const([5, 7], "int32"),
                    R.const([1.0, 2.0], "float32"), shift, r, p,
                    activation="clip(0.0,inf)", has_correction=1, has_residual=1,
                )  # fmt: skip
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_bias_along_positions_stays_float(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            acc: R.Tensor((1, 2), "int32"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                a = R.probq.dequantize_accumulator(
                    acc, p, R.const([0.5, 1.0], "float32"), R.const([5, 7], "int32"),
                    R.const([0.0, 0.0], "float32"),
                    activation="none", has_correction=0, has_residual=0,
                )  # fmt: skip
                b = R.add(a, R.const([1.0], "float32"))
                gv = R.probq.quantize(b, yp, layout="NHWC")
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


@pytest.mark.parametrize("mode", ["static", "predicted"])
def test_no_float_tensor_is_left_of_a_layer(
    mode: str, annotated_net: Any, apply: Any, calls_of: Any
) -> None:
    after = apply(CHANGE, before(annotated_net, plan_of("w8a8", mode)), numeric=False)
    calls = calls_of(after)
    assert calls.count("probq.requantize") == 5
    assert calls.count("probq.dequantize_accumulator") == 1  # the output
    assert "probq.measure" not in calls
    assert "probq.activation" not in calls


def test_dynamic_mode_measures_the_accumulator(
    annotated_net: Any, apply: Any, calls_of: Any
) -> None:
    after = apply(CHANGE, before(annotated_net, plan_of("w8a8", "dynamic")), numeric=False)
    assert calls_of(after).count("probq.measure") == 5
    assert calls_of(after).count("probq.observe") == 1  # the input


def test_activation_and_residual_are_attributes(annotated_net: Any) -> None:
    after = CHANGE(before(annotated_net, plan_of("w8a8")))
    tails = [c for c in Definitions(after["main"]).order if is_call(c, "probq.requantize")]
    found = [ops.AccumulatorArgs.from_call(c) for c in tails]
    relu = "clip(0.0,inf)"
    assert [a.activation for a in found] == [relu, relu, relu, "hard_swish", "none"]
    assert [a.residual is not None for a in found] == [False, False, True, False, False]


def test_the_values_stay(annotated_net: Any) -> None:
    import numpy as np

    from tvm_probq.simulator.interpreter import Simulator

    mod = before(annotated_net, plan_of("w8a8", "dynamic"))
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want, got = Simulator(mod)(x), Simulator(CHANGE(mod))(x)
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()
