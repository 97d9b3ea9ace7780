"""Clips, hard-swish and hard-sigmoid in all their forms become one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.script import parser as R
from tvm.script import ir as I

import tvm_probq.ops  # noqa: F401 - defines R.probq
from tvm_probq.ir.rewrite import bindings
from tvm_probq.passes.simplify_activations import SimplifyActivations

CHANGE = SimplifyActivations()
BEFORE = 4  # canonical passes that come first


def kinds(mod: Any) -> list[str]:
    """Kinds of the activations of a module."""
    values = [b.value for b in bindings(mod["main"])]
    return [str(v.attrs["kind"]) for v in values if "activation" in str(getattr(v, "op", ""))]


def test_relu() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                gv = R.nn.relu(x)
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                gv = R.probq.activation(x, kind="clip(0.0,inf)")
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_maximum_of_two_tensors_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32"), y: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                a = R.maximum(x, y)
                gv = R.minimum(a, R.const([1.0, 2.0, 3.0], "float32"))
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


Body = Callable[[Any], Any]
SIX, THREE, HALF = np.float32(6), np.float32(3), np.float32(0.5)


def gate(net: Any) -> str:
    return net("Clip", net("Add", "x", THREE), np.float32(0), SIX)


def cdf(net: Any) -> str:
    """Twice the normal distribution's function."""
    return net("Add", net("Erf", net("Div", "x", np.float32(2**0.5))), np.float32(1))


FORMS: dict[str, tuple[Body, str]] = {
    "relu6": (lambda n: n("Clip", "x", np.float32(0), SIX), "clip(0.0,6.0)"),
    "only_min": (lambda n: n("Clip", "x", np.float32(-0.5)), "clip(-0.5,inf)"),
    "only_max": (lambda n: n("Clip", "x", "", HALF), "clip(-inf,0.5)"),
    "reversed": (lambda n: n("Clip", "x", SIX, np.float32(0)), "clip(0.0,0.0)"),
    "relu_then_clip": (lambda n: n("Clip", n("Relu", "x"), np.float32(-1), SIX), "clip(0.0,6.0)"),
    "clip_then_relu": (lambda n: n("Relu", n("Clip", "x", np.float32(-1), SIX)), "clip(0.0,6.0)"),
    "apart": (
        lambda n: n("Clip", n("Relu", "x"), np.float32(-3), np.float32(-1)), "clip(-1.0,-1.0)",
    ),
    "leaky": (lambda n: n("LeakyRelu", "x", alpha=0.1), "leaky(0.1)"),
    "leaky_default": (lambda n: n("LeakyRelu", "x"), "leaky(0.01)"),
    "leaky_of_nothing": (lambda n: n("LeakyRelu", "x", alpha=0.0), "clip(0.0,inf)"),
    "hard_sigmoid": (lambda n: n("HardSigmoid", "x", alpha=1 / 6, beta=0.5), "hard_sigmoid"),
    "hard_sigmoid_parts": (lambda n: n("Div", gate(n), SIX), "hard_sigmoid"),
    "hard_sigmoid_scaled": (lambda n: n("Mul", gate(n), np.float32(1 / 6)), "hard_sigmoid"),
    "hard_swish": (lambda n: n("HardSwish", "x"), "hard_swish"),
    "hard_swish_of_sigmoid": (
        lambda n: n("Mul", n("HardSigmoid", "x", alpha=1 / 6, beta=0.5), "x"), "hard_swish",
    ),
    "hard_swish_product_first": (lambda n: n("Div", n("Mul", "x", gate(n)), SIX), "hard_swish"),
    "hard_swish_gate_first": (lambda n: n("Mul", "x", n("Div", gate(n), SIX)), "hard_swish"),
    "sigmoid": (lambda n: n("Sigmoid", "x"), "sigmoid"),
    "tanh": (lambda n: n("Tanh", "x"), "tanh"),
    "silu": (lambda n: n("Mul", "x", n("Sigmoid", "x")), "silu"),
    "silu_gate_first": (lambda n: n("Mul", n("Sigmoid", "x"), "x"), "silu"),
    "gelu": (lambda n: n("Mul", n("Mul", "x", cdf(n)), HALF), "gelu"),
    "gelu_half_first": (lambda n: n("Mul", n("Mul", HALF, "x"), cdf(n)), "gelu"),
    "gelu_half_of_gate": (lambda n: n("Mul", n("Div", cdf(n), np.float32(2)), "x"), "gelu"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_onnx_forms(form: str, onnx_net: Any, imported: Any, apply: Any) -> None:
    build, kind = FORMS[form]
    net = onnx_net(3, 4, 4)
    build(net)
    assert kinds(apply(CHANGE, imported(net, steps=BEFORE)))[-1] == kind


@pytest.mark.parametrize("slope", [-0.1, 1.0, 2.0])
def test_other_slopes_stay_as_they_are(
    slope: float, onnx_net: Any, imported: Any, unchanged: Any
) -> None:
    net = onnx_net(3, 4, 4)
    net("LeakyRelu", "x", alpha=slope)
    unchanged(CHANGE, imported(net, steps=BEFORE))


def test_clip_with_attributes(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 4, 4, opset=10)
    net("Clip", "x", min=0.0, max=6.0)
    assert kinds(apply(CHANGE, imported(net, steps=BEFORE))) == ["clip(0.0,6.0)"]


@pytest.mark.parametrize("operand", ["other", "x"])
def test_a_gate_of_another_tensor_is_no_hard_swish(
    operand: str, onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 4, 4)
    other = (
        net("Relu", "x") if operand == "other" else net("Clip", "x", np.float32(-9), np.float32(9))
    )
    net("Mul", other, net("HardSigmoid", "x", alpha=1 / 6, beta=0.5))
    assert "hard_swish" not in kinds(apply(CHANGE, imported(net, steps=BEFORE)))


def test_an_error_function_of_another_width_is_no_gelu(
    onnx_net: Any, imported: Any, apply: Any
) -> None:
    net = onnx_net(3, 4, 4)
    wide = net("Add", net("Erf", net("Mul", "x", HALF)), np.float32(1))
    net("Mul", net("Mul", "x", wide), HALF)
    assert not kinds(apply(CHANGE, imported(net, steps=BEFORE)))


def test_another_slope_is_no_hard_sigmoid(onnx_net: Any, imported: Any, apply: Any) -> None:
    net = onnx_net(3, 4, 4)
    net("HardSigmoid", "x", alpha=0.2, beta=0.5)
    assert kinds(apply(CHANGE, imported(net, steps=BEFORE))) == ["clip(0.0,1.0)"]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3,), "float32"), ((), "float32"), ((2, 3), "int32")]
)
def test_only_tensors_of_samples_with_channels(
    shape: tuple[int, ...], dtype: str, unchanged: Any
) -> None:
    x = relax.Var("x", relax.TensorType(shape, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.maximum(x, relax.const(0, dtype)))
        builder.emit_func_output(y)
    unchanged(CHANGE, builder.finalize())


def test_a_bound_that_broadcasts_is_no_clip(unchanged: Any) -> None:
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            bound = relax.const(np.zeros((1, 1, 1), np.float32))
            y = builder.emit_output(relax.op.maximum(x, bound))
        builder.emit_func_output(y)
    unchanged(CHANGE, builder.finalize())
