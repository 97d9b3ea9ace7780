"""Products of dequantized codes become integer products."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.script import parser as R
from tvm.script import ir as I

from tvm_probq import ops
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.passes.insert_surrogates import InsertSurrogates
from tvm_probq.passes.quantize_weights import QuantizeWeights
from tvm_probq.passes.widen_accumulators import PROOFS, WidenAccumulators
from tvm_probq.plan.plan import LayerPlan, Plan, plan_of

CHANGE = WidenAccumulators()


def before(annotated_net: Any, plan: Plan) -> Any:
    """The module after the passes that come first."""
    mod, record = annotated_net
    return QuantizeWeights(plan, record)(InsertSurrogates(plan, record)(mod))


def test_a_matrix_product() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(q: R.Tensor((1, 2), "uint8"), p: R.Tensor((1, 3, 1), "float32")):
            with R.dataflow():
                x = R.probq.dequantize(q, p)
                w = R.probq.dequantize_weight(
                    R.const([[1, 2, -3], [4, 5, 6]], "int8"),
                    R.const([0.5, 1.0, 2.0], "float32"), axis=1, bits=8,
                )  # fmt: skip
                gv = R.matmul(x, w)
                R.output(gv)
            return gv

    after = CHANGE(Before)
    PROOF = '{"0": "int32: 14 bits needed, |sum| <= 2295, two products <= 3060"}'

    @I.ir_module
    class Expected:
        @R.function
        def main(q: R.Tensor((1, 2), "uint8"), p: R.Tensor((1, 3, 1), "float32")):
            R.func_attr({PROOFS: PROOF})
            with R.dataflow():
                acc = R.matmul(q, R.const([[1, 2, -3], [4, 5, 6]], "int8"), out_dtype="int32")
                gv = R.probq.dequantize_accumulator(
                    acc, p, R.const([0.5, 1.0, 2.0], "float32"), R.const([5, 7, 3], "int32"),
                    R.const([0.0, 0.0, 0.0], "float32"),
                    activation="none", has_correction=0, has_residual=0,
                )  # fmt: skip
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(after, Expected)


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_every_product_is_integer(mode: str, annotated_net: Any, apply: Any) -> None:
    after = apply(CHANGE, before(annotated_net, plan_of("w8a8", mode)))
    order = Definitions(after["main"]).order
    products = [c for c in order if is_call(c, "nn.conv2d", "matmul")]
    assert len(products) == 6
    assert {str(c.ty.dtype) for c in products} == {"int32"}
    assert all(not any(c.attrs.padding) for c in products if is_call(c, "nn.conv2d"))


def test_padding_takes_the_zero_point(annotated_net: Any, calls_of: Any) -> None:
    calls = calls_of(CHANGE(before(annotated_net, plan_of("w8a8"))))
    assert calls.count("probq.pad") == 4


def test_proofs_are_recorded_by_layer(annotated_net: Any) -> None:
    after = CHANGE(before(annotated_net, plan_of("w4a8")))
    proofs = json.loads(str(after["main"].attrs[PROOFS]))
    assert list(proofs) == [*(f"conv2d_{i}" for i in range(5)), "dense_5"]
    assert all(text.startswith("int32: ") for text in proofs.values())


def test_a_float_layer_stays(annotated_net: Any) -> None:
    plan = Plan(layers={"conv2d_0": LayerPlan(mode="float")})
    after = CHANGE(before(annotated_net, plan))
    order = Definitions(after["main"]).order
    dtypes = [str(c.ty.dtype) for c in order if is_call(c, "nn.conv2d")]
    assert dtypes == ["float32", *["int32"] * 4]


def test_a_float_module_is_left_alone(annotated_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, annotated_net[0])


def test_the_accumulator_is_exact(annotated_net: Any) -> None:
    from tvm_probq.simulator.interpreter import Simulator

    mod = before(annotated_net, plan_of("w8a8", "dynamic"))
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want, got = Simulator(mod)(x), Simulator(CHANGE(mod))(x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("qmax", "bits"), [(255, 14), (1000, 16), (32767, 21)])
def test_the_proof_is_of_the_largest_code(qmax: int, bits: int) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 1, 2, 1), "float32"))
    p = relax.Var("p", relax.TensorType((1, 3, 1), "float32"))
    with builder.function("main", [x, p]):
        with builder.dataflow():
            q = builder.emit(ops.quantize(x, p, qmax=qmax))
            q = builder.emit(ops.layer(q, name="x", kind="input"))
            q = builder.emit(relax.op.reshape(q, (1, 2)))
            real = builder.emit(ops.dequantize(q, p))
            codes = relax.const(np.array([[1, 2, -3], [4, 5, 6]], np.int8))
            scale = relax.const(np.ones(3, np.float32))
            w = builder.emit(ops.dequantize_weight(codes, scale, axis=1, bits=8))
            out = builder.emit_output(relax.op.matmul(real, w))
        builder.emit_func_output(out)
    (proof,) = json.loads(CHANGE(builder.finalize())["main"].attrs[PROOFS]).values()
    assert proof.startswith(f"int32: {bits} bits needed, |sum| <= {9 * qmax}")
