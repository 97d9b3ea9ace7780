"""Clip, Pad, Sum and Split as the importer writes them become plain operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tvm_probq.passes.recover_operators import RecoverOperators

CHANGE = RecoverOperators()


def test_a_stacked_sum_becomes_additions() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(a: R.Tensor((2, 3), "float32"), b: R.Tensor((1, 3), "float32")):
            with R.dataflow():
                wide = R.broadcast_to(b, R.shape([2, 3]))
                stacked = R.stack((a, wide, a), axis=0)
                gv = R.sum(stacked, axis=[0])
                R.output(gv)
            return gv

    @I.ir_module
    class Expected:
        @R.function
        def main(a: R.Tensor((2, 3), "float32"), b: R.Tensor((1, 3), "float32")):
            with R.dataflow():
                lv = R.add(a, b)
                gv = R.add(lv, a)
                R.output(gv)
            return gv

    tvm.ir.assert_structural_equal(CHANGE(Before), Expected)


def test_a_sum_over_another_axis_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(a: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                stacked = R.stack((a, a), axis=0)
                gv = R.sum(stacked, axis=[1])
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def test_a_sum_that_only_broadcasting_makes_wide_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(a: R.Tensor((1, 3), "float32")):
            with R.dataflow():
                wide = R.broadcast_to(a, R.shape([2, 3]))
                stacked = R.stack((wide, wide), axis=0)
                gv = R.sum(stacked, axis=[0])
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


def test_another_loop_nest_stays(unchanged: Any) -> None:
    @I.ir_module
    class Before:
        @T.prim_func(private=True, s_tir=True)
        def maximum(a: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
            for i in range(4):
                with T.sblock("y"):
                    v = T.axis.spatial(4, i)
                    y[v] = T.max(a[v] + T.float32(1), T.float32(0))

        @R.function
        def main(x: R.Tensor((4,), "float32")):
            cls = Before
            with R.dataflow():
                gv = R.call_tir(cls.maximum, (x,), out_ty=R.Tensor((4,), "float32"))
                R.output(gv)
            return gv

    unchanged(CHANGE, Before)


@pytest.mark.parametrize("count", [2, 3])
def test_onnx_sum(count: int, onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 4, 4)
    net("Sum", *(net("Relu", "x") if i else "x" for i in range(count)))
    after = apply(CHANGE, imported(net))
    assert calls_of(after).count("add") == count - 1
    assert not {"stack", "broadcast_to", "sum"} & set(calls_of(after))


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-0.5, None), (None, 0.5)])
def test_clip_with_inputs(
    bounds: Any, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 4, 4)
    net("Clip", "x", *("" if b is None else np.float32(b) for b in bounds))
    after = apply(CHANGE, imported(net))
    assert "call_tir" not in calls_of(after)
    assert len(after.functions_items()) == 1


def test_clip_with_attributes(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 4, 4, opset=10)
    net("Clip", "x", min=-1.0, max=2.0)
    after = apply(CHANGE, imported(net))
    assert calls_of(after) == ["maximum", "minimum"]


@pytest.mark.parametrize(
    "widths", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 2, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]]
)
def test_pad(widths: list[int], onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 4, 5)
    net("Pad", "x", widths, np.float32(1.5))
    after = apply(CHANGE, imported(net))
    assert calls_of(after) == ["nn.pad"]


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_padding_with_other_values_stays(
    mode: str, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(3, 4, 5)
    net("Pad", "x", [0, 0, 1, 1, 0, 0, 1, 1], mode=mode)
    assert "nn.pad" not in calls_of(apply(CHANGE, imported(net)))


@pytest.mark.parametrize("sizes", [None, [2, 3, 4]])
def test_split(
    sizes: list[int] | None, onnx_net: Any, imported: Any, apply: Any, calls_of: Any
) -> None:
    net = onnx_net(9, 2, 2)
    first = net("Split", "x", *([] if sizes is None else [sizes]), axis=1, outputs=3)
    last = net.nodes[-1].output[2]
    after = apply(CHANGE, imported(net, net("Relu", last), first))
    assert calls_of(after).count("strided_slice") == 2
    assert "split" not in calls_of(after)


def test_dropout_is_left_out(onnx_net: Any, imported: Any, apply: Any, calls_of: Any) -> None:
    net = onnx_net(3, 4)
    net("Relu", net("Dropout", "x"))
    assert calls_of(apply(CHANGE, imported(net))) == ["nn.relu"]
