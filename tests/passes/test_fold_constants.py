"""Constant subexpressions are evaluated, nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_probq.ir.expressions import constant, constant_value
from tvm_probq.ir.rewrite import bindings
from tvm_probq.passes.fold_constants import FoldConstants

CHANGE = FoldConstants()


def test_a_chain_of_constants_becomes_one() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                a = R.where(
                    R.isnan(R.const(6.0, "float32")),
                    R.const(0.0, "float32"),
                    R.const(6.0, "float32"),
                )
                b = R.multiply(a, R.const(0.5, "float32"))
                gv = R.minimum(x, b)
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                gv = R.minimum(x, R.const(3.0, "float32"))
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_known_shape_is_a_constant() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((5, 7), "float32"), i: R.Tensor((2,), "int64")):
            with R.dataflow():
                shape = R.shape_to_tensor(R.shape_of(x))
                rows = R.take(shape, R.const(0, "int64"), axis=0)
                gv = R.add(i, rows)
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((5, 7), "float32"), i: R.Tensor((2,), "int64")):
            with R.dataflow():
                gv = R.add(i, R.const(5, "int64"))
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_shape_that_varies_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 7), "float32")):
            with R.dataflow():
                shape = R.shape_of(x)
                gv = R.shape_to_tensor(shape)
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def test_what_depends_on_the_input_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 2), "float32")):
            with R.dataflow():
                a = R.concat((x, R.const([[1.0, 2.0]], "float32")), axis=0)
                gv = R.reshape(a, R.shape([6]))
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def test_division_of_integers_stays_integer() -> None:
    builder = relax.BlockBuilder()
    params = [relax.Var("x", relax.TensorType((2,), "int64"))]
    with builder.function("main", params):
        with builder.dataflow():
            seven, two = constant([7, -7]), constant([2, 2])
            divided = builder.emit(relax.op.divide(seven, two))
            out = builder.emit_output(relax.op.add(params[0], divided))
        builder.emit_func_output(out)
    add = bindings(CHANGE(builder.finalize())["main"])[0].value
    value = constant_value(add.args[1])
    assert value.dtype == np.int64
    assert value.tolist() == [3, -3]


def test_statistics_behind_other_nodes(
    onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(8, 4, 4)
    gamma = net("Identity", net.constant(net.rng.uniform(0.5, 1.5, 8)))
    beta = net("Reshape", net.draw(8, 1), [8])
    mean = net("Mul", net.draw(8), [2.0])
    net("BatchNormalization", "x", gamma, beta, mean, net.rng.uniform(0.5, 1.5, 8))
    after = apply(CHANGE, imported(net, steps=2))
    assert calls_of(after) == ["nn.batch_norm"]
