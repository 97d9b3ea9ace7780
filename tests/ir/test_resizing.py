"""Tables of resized rows, against the reference implementation of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tvm_probq.ir.resizing import COORDINATES, NEAREST, taps

SIZES = [(5, 10), (4, 12), (7, 5), (6, 3), (3, 7), (1, 4), (5, 1), (4, 4)]


def resized(line: Any, new: int, **attributes: str) -> Any:
    """A line of pixels resized by ONNX."""
    node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(line)])
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [new])
    graph = helper.make_graph([node], "resize", [x, size], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return ReferenceEvaluator(model).run(None, {"x": line, "size": np.array([new])})[0]


def applied(line: Any, new: int, coordinates: str, nearest: str | None = None) -> Any:
    table = taps(len(line), new, coordinates, nearest)
    assert table.index.dtype == np.int32
    assert table.weight.dtype == np.float32
    first, second = line[table.index]
    return first + (second - first) * table.weight


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_linear(coordinates: str, size: tuple[int, int]) -> None:
    line = np.random.default_rng(0).normal(size=size[0]).astype(np.float32)
    wanted = resized(line, size[1], mode="linear", coordinate_transformation_mode=coordinates)
    np.testing.assert_allclose(applied(line, size[1], coordinates), wanted, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest(coordinates: str, nearest: str, size: tuple[int, int]) -> None:
    line = np.random.default_rng(0).normal(size=size[0]).astype(np.float32)
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    wanted = resized(line, size[1], mode="nearest", **attributes)
    np.testing.assert_array_equal(applied(line, size[1], coordinates, nearest), wanted)
