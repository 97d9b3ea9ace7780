"""Reading functions: layers, their geometry, and operators that move codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.ir.expressions import (
    constant,
    constant_value,
    is_tensor,
    op_name,
    shape_of,
)
from tvm_probq.ir.layers import Definitions, find_layers
from tvm_probq.ir.rewrite import bindings, count_uses, rewrite
from tvm_probq.passes.pipeline import canonical_passes


def canonical(net: Any, *outputs: str) -> Any:
    """The canonical main function of an ONNX graph, without markers."""
    proto = net.proto(*(outputs or net.nodes[-1].output[:1]))
    shape = [1, *(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[1:])]
    mod = from_onnx(proto, shape_dict={"x": shape}, keep_params_in_input=False)
    return tvm.transform.Sequential(canonical_passes()[:-1])(mod)["main"]


def layers(net: Any, *outputs: str) -> Any:
    """The layers of an ONNX graph."""
    return find_layers(Definitions(canonical(net, *outputs)))


def test_bias_residual_and_activation_belong_to_the_layer(onnx_net: Any) -> None:
    net = onnx_net(8, 6, 6)
    net("Relu", net("Add", "x", net.conv("x", 8, 8)))
    (layer,) = layers(net)
    assert [op_name(c).split(".")[-1] for c in layer.calls] == [
        "conv2d",
        "add",
        "add",
        "activation",
    ]
    assert layer.residual is not None
    assert layer.activation == "clip(0.0,inf)"
    assert layer.weights.shape == (8, 3, 3, 8)
    assert layer.bias.any()


def test_a_sum_of_two_layers_belongs_to_the_later(onnx_net: Any) -> None:
    net = onnx_net(3, 6, 6)
    net("Add", net.conv("x", 3, 8), net.conv("x", 3, 8))
    first, second = layers(net)
    assert first.residual is None
    assert second.residual is not None


def test_a_second_reader_ends_the_layer(onnx_net: Any) -> None:
    net = onnx_net(3, 6, 6)
    x = net.conv("x", 3, 8, bias=False)
    (layer,) = layers(net, net("Relu", x), x)
    assert layer.activation == "none"
    assert len(layer.calls) == 1


@pytest.mark.parametrize(
    ("group", "outputs", "depthwise"), [(1, 8, False), (2, 8, False), (8, 8, True), (8, 16, False)]
)
def test_geometry(group: int, outputs: int, depthwise: bool, onnx_net: Any) -> None:
    net = onnx_net(8, 9, 7)
    net.conv("x", 8, outputs, group=group, strides=[2, 1], pads=[0, 1, 2, 1], dilations=[1, 2])
    g = layers(net)[0].geometry
    assert g.x_shape == (1, 9, 7, 8)
    assert g.y_shape == (1, 5, 5, outputs)
    assert (g.strides, g.pads, g.dilation, g.groups) == ((2, 1), (0, 1, 2, 1), (1, 2), group)
    assert g.depthwise == depthwise
    assert g.positions == 25
    assert g.macs == 25 * outputs * 9 * 8 // group


def test_a_matrix_product_is_a_pointwise_convolution(onnx_net: Any) -> None:
    net = onnx_net(12)
    net.gemm("x", 12, 5)
    (layer,) = layers(net)
    assert layer.weights.shape == (5, 1, 1, 12)
    assert layer.geometry.kernel == (1, 1)
    assert layer.geometry.macs == 60


@pytest.mark.parametrize("value", [3.0, [1, 2], [[1.5]], np.float64(2), np.array([2**40])])
def test_constants_keep_shape_and_type(value: Any) -> None:
    array = np.asarray(value)
    made = constant(array)
    assert shape_of(made) == array.shape
    assert constant_value(made).dtype == array.dtype
    assert np.array_equal(constant_value(made), array)


def test_shapes_that_are_not_known() -> None:
    n = tvm.tirx.Var("n", "int64")
    symbolic = relax.Var("x", relax.TensorType((n, 4), "float32"))
    with pytest.raises(ValueError, match="symbolic"):
        shape_of(symbolic)
    with pytest.raises(ValueError, match="no static shape"):
        shape_of(relax.Var("x", relax.TensorType(dtype="float32", ndim=2)))
    assert not is_tensor(symbolic)


def test_rewriting_offers_every_call_once(onnx_net: Any) -> None:
    net = onnx_net(3, 6, 6)
    net("Relu", net.conv("x", 3, 8))
    function = canonical(net)
    seen: list[str] = []
    mod = tvm.IRModule({"main": function})
    same = rewrite(mod, lambda rewriter, old, new: seen.append(op_name(new)))
    assert len(seen) == len([b for b in bindings(function) if op_name(b.value)])
    tvm.ir.assert_structural_equal(same, mod)


def test_uses_are_counted_with_repetitions() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.add(x, x))
            out = builder.emit_output(relax.Tuple([y, y]))
        builder.emit_func_output(out)
    uses = count_uses(builder.finalize()["main"])
    assert uses[x] == 2
    assert sorted(uses.values())[-1] == 2
