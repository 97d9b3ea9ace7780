"""A small network as TFLite: what LiteRT computes from it is what ONNX Runtime computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from arm import onnx_layers, tflite_file, xnnpack
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of layer, and both kinds of padding."""
    rng = np.random.default_rng(3)
    constants: list[Any] = []

    def constant(*shape: int) -> str:
        values = rng.normal(size=shape).astype(np.float32) / np.sqrt(max(1, np.prod(shape[1:])))
        constants.append(numpy_helper.from_array(values.astype(np.float32), f"c{len(constants)}"))
        return str(constants[-1].name)

    def conv(x: str, y: str, inputs: int, pads: list[int], stride: int, group: int = 1) -> Any:
        weight, bias = constant(CHANNELS, inputs, 3, 3), constant(CHANNELS)
        return helper.make_node(
            "Conv", [x, weight, bias], [y], pads=pads, strides=[stride] * 2, group=group,
            kernel_shape=[3, 3],
        )  # fmt: skip

    nodes = [
        conv("x", "a", 3, [0, 0, 1, 1], 2), helper.make_node("Relu", ["a"], ["b"]),
        conv("b", "c", 1, [1, 1, 1, 1], 1, CHANNELS), helper.make_node("Add", ["b", "c"], ["d"]),
        conv("d", "e", CHANNELS, [1, 1, 1, 1], 2), helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("ReduceMean", ["f"], ["g"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["g", constant(5, CHANNELS), constant(5)], ["y"], transB=1),
    ]  # fmt: skip
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", [1, 3, 16, 16]), ("y", [1, 5]))
    ]
    graph = helper.make_graph(nodes, "small", *ends, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    result = tmp_path_factory.mktemp("tflite") / "small.onnx"
    onnx.save(model, result)
    return result


def test_activations_are_fused_and_layers_keep_their_order(path: Path) -> None:
    network = onnx_layers.read(path)
    assert network.image == (1, 16, 16, 3)
    kinds = [(layer.kind, layer.activation) for layer in network.layers]
    assert kinds == [
        ("conv", "relu"), ("depthwise", ""), ("add", ""), ("conv", "relu"), ("mean", ""),
        ("dense", ""),
    ]  # fmt: skip
    assert network.layers[1].weight.shape == (1, 3, 3, CHANNELS)


def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "odd", *ends)
    onnx.save(helper.make_model(graph), tmp_path / "odd.onnx")
    with pytest.raises(ValueError, match="Sigmoid"):
        onnx_layers.read(tmp_path / "odd.onnx")


@pytest.mark.parametrize(("quantized", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_litert_agrees_with_the_float_model(
    path: Path, quantized: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    monkeypatch.setattr(sys, "path", list(sys.path))
    images = np.random.default_rng(4).normal(size=(16, 3, 16, 16)).astype(np.float32)
    network = onnx_layers.read(path)
    ranges = xnnpack.ranges(path, network, images) if quantized else None
    schema = xnnpack.schema(Path(litert.__file__).parents[1])
    interpreter = litert.Interpreter(
        model_content=tflite_file.write(network, schema, ranges), num_threads=1
    )
    interpreter.allocate_tensors()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in images:
        x = np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        (expected,) = session.run(None, {"x": image[None]})
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
