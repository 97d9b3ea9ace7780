"""Operators between a dequantize and a quantize work on codes."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.passes.propagate_quantized import PropagateQuantized
from tvm_probq.plan.plan import plan_of

CHANGE = PropagateQuantized()


def test_a_global_pool() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            q: R.Tensor((1, 2, 2, 4), "uint8"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.mean(R.probq.dequantize(q, p), axis=[1, 2], keepdims=True)
                gv = R.probq.quantize(lv, yp, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            q: R.Tensor((1, 2, 2, 4), "uint8"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.probq.global_avg_pool(q, p, yp)
                gv = R.reshape(lv, R.shape([1, 1, 1, 4]))
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_codes_that_are_quantized_again() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            q: R.Tensor((1, 4), "uint8"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                gv = R.probq.quantize(R.probq.dequantize(q, p), yp, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            q: R.Tensor((1, 4), "uint8"), p: R.Tensor((1, 3, 1), "float32"),
            yp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                gv = R.probq.rescale(q, p, yp)
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_sum_with_its_activation() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            a: R.Tensor((1, 4), "uint8"), b: R.Tensor((1, 4), "uint8"),
            p: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.add(R.probq.dequantize(a, p), R.probq.dequantize(b, p))
                lv1 = R.probq.activation(lv, kind="clip(0.0,inf)")
                gv = R.probq.quantize(lv1, p, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            a: R.Tensor((1, 4), "uint8"), b: R.Tensor((1, 4), "uint8"),
            p: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                gv = R.probq.add(a, p, b, p, p, activation="clip(0.0,inf)")
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_product_with_its_gate_first() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            g: R.Tensor((1, 1, 1, 4), "uint8"), x: R.Tensor((1, 2, 2, 4), "uint8"),
            gp: R.Tensor((1, 3, 1), "float32"), xp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.multiply(R.probq.dequantize(g, gp), R.probq.dequantize(x, xp))
                gv = R.probq.quantize(lv, xp, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            g: R.Tensor((1, 1, 1, 4), "uint8"), x: R.Tensor((1, 2, 2, 4), "uint8"),
            gp: R.Tensor((1, 3, 1), "float32"), xp: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                gv = R.probq.multiply(x, xp, g, gp, xp, activation="none")
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_matrix_product_of_two_tensors() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            a: R.Tensor((2, 3, 4, 8), "uint8"), p: R.Tensor((2, 3, 1), "float32"),
            b: R.Tensor((2, 3, 5, 8), "uint8"), p1: R.Tensor((2, 3, 1), "float32"),
            p2: R.Tensor((2, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.permute_dims(R.probq.dequantize(b, p1), axes=[0, 1, 3, 2])
                lv1 = R.matmul(R.probq.dequantize(a, p), lv)
                gv = R.probq.quantize(lv1, p2, layout="NHWC")
                R.output(gv, lv1)
            return gv, lv1

    @I.ir_module
    class Expected:
        @R.function
        def main(
            a: R.Tensor((2, 3, 4, 8), "uint8"), p: R.Tensor((2, 3, 1), "float32"),
            b: R.Tensor((2, 3, 5, 8), "uint8"), p1: R.Tensor((2, 3, 1), "float32"),
            p2: R.Tensor((2, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                b1 = R.permute_dims(b, axes=[0, 1, 3, 2])
                lv1 = R.probq.matmul(a, p, b1, p1)
                gv = R.probq.matmul(a, p, b1, p1, p2)
                R.output(gv, lv1)
            return gv, lv1

    tvm.ir.assert_structural_equal(PropagateQuantized()(Before), Expected)


def test_a_product_of_other_shapes_stays_float(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 2, 2, 4), "uint8"), row: R.Tensor((1, 1, 2, 4), "uint8"),
            p: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.probq.dequantize(x, p)
                lv1 = R.probq.dequantize(row, p)
                lv2 = R.multiply(lv, lv1)
                gv = R.probq.quantize(lv2, p, layout="NHWC")
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def test_a_join() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            a: R.Tensor((1, 4), "uint8"), b: R.Tensor((1, 2), "uint8"),
            p: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.concat((R.probq.dequantize(a, p), R.probq.dequantize(b, p)), axis=1)
                gv = R.probq.quantize(lv, p, layout="NHWC")
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(
            a: R.Tensor((1, 4), "uint8"), b: R.Tensor((1, 2), "uint8"),
            p: R.Tensor((1, 3, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                lv = R.probq.rescale(a, p, p)
                lv1 = R.probq.rescale(b, p, p)
                gv = R.probq.concat(lv, lv1, axis=1)
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_an_input_is_transposed_as_it_is_quantized() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 5), "float32"), p: R.Tensor((1, 3, 1), "float32")):
            with R.dataflow():
                lv = R.probq.quantize(x, p, layout="NHWC")
                gv = R.permute_dims(lv, axes=[0, 2, 3, 1])
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 5), "float32"), p: R.Tensor((1, 3, 1), "float32")):
            with R.dataflow():
                gv = R.probq.quantize(x, p, layout="NCHW")
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


MOVES = {
    "reshape": lambda x: R.reshape(x, R.shape([2, 16])),
    "max_pool": lambda x: R.nn.max_pool2d(x, pool_size=[2, 2], layout="NHWC"),
    "slice": lambda x: R.strided_slice(x, axes=[3], begin=[0], end=[2]),
    "resize": lambda x: R.image.resize2d(x, (4, 6), layout="NHWC", method="linear"),
    "transpose": lambda x: R.permute_dims(x, axes=[0, 3, 1, 2]),
    "average_pool": lambda x: R.nn.avg_pool2d(x, pool_size=[2, 1], layout="NHWC"),
    "clip": lambda x: R.probq.activation(x, kind="clip(0.0,6.0)"),
    "take": lambda x: R.take(x, R.const([1, 0], "int64"), axis=3),
}
STAYS = {
    "dilated_pool": lambda x: R.nn.avg_pool2d(x, pool_size=[2, 1], dilation=[1, 2], layout="NHWC"),
    "wide_pool": lambda x: R.nn.avg_pool2d(x, pool_size=[5, 5], padding=[2, 2], layout="NHWC"),
    "pool_of_rows": lambda x: R.nn.avg_pool2d(x, pool_size=[2, 2], layout="NCHW"),
    "sigmoid": lambda x: R.probq.activation(x, kind="sigmoid"),
    "take_samples": lambda x: R.take(x, R.const([1, 0], "int64"), axis=0),
    "cubic": lambda x: R.image.resize2d(x, (4, 6), layout="NHWC", method="cubic"),
    "resize_of_rows": lambda x: R.image.resize2d(x, (4, 6), layout="NCHW", method="linear"),
    "across_samples": lambda x: R.reshape(x, R.shape([8, 4])),
    "no_samples": lambda x: R.reshape(x, R.shape([32])),
    "slice_of_samples": lambda x: R.strided_slice(x, axes=[0], begin=[1], end=[2]),
    "transposed_samples": lambda x: R.permute_dims(x, axes=[1, 0, 2, 3]),
    "padded_with_ones": lambda x: R.nn.pad(x, pad_width=[0, 0, 1, 1, 0, 0, 0, 0], pad_value=1.0),
    "padded_samples": lambda x: R.nn.pad(x, pad_width=[0, 1, 0, 0, 0, 0, 0, 0], pad_value=0.0),
}


def moved(body: Any) -> Any:
    """A module that applies `body` to dequantized codes."""
    from tvm import relax

    from tvm_probq import ops

    builder = relax.BlockBuilder()
    q = relax.Var("q", relax.TensorType((2, 2, 2, 4), "uint8"))
    p = relax.Var("p", relax.TensorType((2, 3, 1), "float32"))
    with builder.function("main", [q, p]):
        with builder.dataflow():
            out = builder.emit_output(body(builder.emit(ops.dequantize(q, p))))
        builder.emit_func_output(out)
    return builder.finalize()


@pytest.mark.parametrize("name", MOVES)
def test_moves_within_samples(name: str, calls_of: Any) -> None:
    after = CHANGE(moved(MOVES[name]))
    assert calls_of(after)[-1] == "probq.dequantize"
    assert len(calls_of(after)) == 2


def test_padding_that_counts_is_padded_first(calls_of: Any) -> None:
    after = CHANGE(
        moved(
            lambda x: R.nn.avg_pool2d(
                x, pool_size=[2, 2], padding=[1, 1], count_include_pad=True, layout="NHWC"
            )
        )
    )
    assert calls_of(after) == ["probq.pad", "probq.avg_pool", "probq.dequantize"]


@pytest.mark.parametrize("name", STAYS)
def test_moves_across_samples_stay_float(name: str, unchanged: Any) -> None:
    unchanged(CHANGE, moved(STAYS[name]))


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_only_the_input_and_the_output_are_float(
    mode: str, annotated_net: Any, apply: Any, calls_of: Any
) -> None:
    mod, record = annotated_net
    passes = quantize_passes(plan_of("w8a8", mode), record)
    before = tvm.transform.Sequential(passes[:-1])(mod)
    calls = calls_of(apply(CHANGE, before, numeric=False))
    assert calls.count("probq.quantize") == 1
    assert "probq.dequantize" not in calls
    assert calls.count("probq.rescale") == 2
    assert "mean" not in calls


def test_a_float_module_is_left_alone(annotated_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, annotated_net[0])
