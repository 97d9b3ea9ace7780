"""ONNX files that can be imported, and every way in which one cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.errors import ModelError, ProbqError, UnsupportedError, UsageError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.frontend.shapes import counted_samples


@pytest.fixture
def net(onnx_net: Any) -> Any:
    """Two convolutions and a dense layer."""
    net = onnx_net(3, 8, 8)
    x = net("Relu", net.conv("x", 3, 8, name="stem/conv"))
    x = net("GlobalAveragePool", net.conv(x, 8, 4))
    net.gemm(net("Flatten", x), 4, 2, name="head")
    return net


Change = Callable[[Any], None]


@pytest.fixture
def changed(net: Any, tmp_path: Path) -> Callable[[Change], Path]:
    """The function that saves the model after a change to its protocol buffer."""

    def make(change: Change) -> Path:
        proto = net.proto(net.nodes[-1].output[0])
        change(proto)
        path = tmp_path / "changed.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return make


def refused(path: Path, kind: type[ProbqError], *words: str, **options: Any) -> None:
    """Loading raises `kind`, with a message that names the file, the cause and what to do."""
    with pytest.raises(ProbqError) as caught:
        load_model(path, **options)
    assert type(caught.value) is kind
    assert caught.value.where == str(path)
    assert caught.value.fix
    for word in words:
        assert word in str(caught.value)


def test_a_model(net: Any, tmp_path: Path) -> None:
    path = net.save(tmp_path)
    model = load_model(path, batch=3)
    assert model.inputs == (("x", (3, 3, 8, 8), "float32"),)
    assert [(shape, dtype) for _, shape, dtype in model.outputs] == [((3, 2), "float32")]
    assert model.outputs[0][0] == net.nodes[-1].output[0]
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.source == str(path)


def test_names_come_from_the_nodes(net: Any, tmp_path: Path) -> None:
    names = list(marked_tensors(load_model(net.save(tmp_path)).mod))
    # A node without a name is called by its operator and its place.
    assert names == ["x", "stem/conv", "Conv_2", "pool", "head"]


def test_names_survive_weights_behind_nodes(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 8, 8)
    weights = net("Identity", net("Reshape", net.draw(8, 27), [8, 3, 3, 3]))
    x = net("Conv", "x", weights, pads=[1] * 4, name="first")
    constant = numpy_helper.from_array(net.draw(4, 8, 1, 1))
    net("Conv", x, net("Constant", value=constant), name="second")
    assert list(marked_tensors(load_model(net.save(tmp_path)).mod)) == ["x", "first", "second"]


def test_names_survive_layers_of_other_ranks(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 16)
    x = net("Relu", net("Conv", "x", net.draw(4, 3, 3), pads=[1, 1], name="one_dimensional"))
    net.gemm(net("Flatten", net("MatMul", x, net.draw(16, 8), name="batched")), 32, 2, name="head")
    assert "head" in marked_tensors(load_model(net.save(tmp_path)).mod)


def test_several_outputs_keep_their_order(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 8, 8)
    x = net("Relu", net.conv("x", 3, 8))
    y = net("GlobalAveragePool", x)
    model = load_model(net.save(tmp_path, y, x))
    assert [(n, s) for n, s, _ in model.outputs] == [(y, (1, 8, 1, 1)), (x, (1, 8, 8, 8))]


def test_external_data(net: Any, tmp_path: Path) -> None:
    proto = net.proto(net.nodes[-1].output[0])
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert len(marked_tensors(load_model(path).mod)) == 5
    (tmp_path / "weights.bin").unlink()
    refused(path, ModelError, "external data", "weights.bin", "copy the data files")


def test_truncated_external_data(net: Any, tmp_path: Path) -> None:
    path, data = tmp_path / "external.onnx", tmp_path / "weights.bin"
    proto = net.proto(net.nodes[-1].output[0])
    onnx.save(proto, path, save_as_external_data=True, location=data.name, size_threshold=0)
    data.write_bytes(data.read_bytes()[:100])
    refused(path, ModelError)


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", ModelError, "cannot be read", "No such file")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, ModelError, "cannot be read", "directory")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 64, b"PK\x03\x04" + b"x" * 99])
def test_a_file_that_is_no_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    refused(path, ModelError, "no complete ONNX model")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_file(share: float, net: Any, tmp_path: Path) -> None:
    path = net.save(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, ModelError)


@pytest.mark.parametrize("version", [5, 99])
def test_an_unsupported_opset(version: int, changed: Any) -> None:
    def change(proto: Any) -> None:
        proto.opset_import[0].version = version

    refused(changed(change), UnsupportedError, f"opset {version}", "can be imported")


def test_an_invalid_graph(changed: Any) -> None:
    def change(proto: Any) -> None:
        proto.graph.node[2].input[0] = "nothing"

    refused(changed(change), ModelError, "not valid ONNX")


def test_an_unknown_operator(changed: Any) -> None:
    def change(proto: Any) -> None:
        proto.opset_import.append(helper.make_opsetid("com.example", 1))
        proto.graph.node[1].op_type, proto.graph.node[1].domain = "Magic", "com.example"

    refused(changed(change), UnsupportedError, "Magic")


@pytest.mark.parametrize("name", ["FLOAT16", "DOUBLE", "BFLOAT16"])
def test_an_input_of_another_type(name: str, changed: Any) -> None:
    def change(proto: Any) -> None:
        proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DataType.Value(name)

    refused(changed(change), UnsupportedError, name, "float32")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_another_type(dtype: Any, changed: Any) -> None:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        array = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    refused(changed(change), UnsupportedError, "the weights 'w0'", "float32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float, changed: Any) -> None:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        array = numpy_helper.to_array(tensor).copy()
        array[1, 2] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    refused(changed(change), ModelError, "'w0'", "NaN or infinity", "9 of 216")


def test_constant_nodes_are_checked_too(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 8, 8)
    weights = np.full((8, 3, 3, 3), np.nan, np.float32)
    net("Conv", "x", net("Constant", value=numpy_helper.from_array(weights)))
    refused(net.save(tmp_path), ModelError, "'Constant_0_0'", "216 of 216")


def test_a_symbolic_height(changed: Any, tmp_path: Path) -> None:
    def change(proto: Any) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"

    path = changed(change)
    refused(path, UnsupportedError, "symbolic shape", "height", "--shape x=")
    model = load_model(path, shapes={"x": (2, 3, 8, 8)})
    assert model.inputs == (("x", (2, 3, 8, 8), "float32"),)


def test_a_batch_that_does_not_fit(changed: Any) -> None:
    def change(proto: Any) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4

    path = changed(change)
    assert load_model(path).inputs[0][1] == (4, 3, 8, 8)
    refused(path, ModelError, "fixed batch 4", "a batch of 2", "--batch 4", batch=2)


@pytest.mark.parametrize("shape", [(1, 3, 9), (1, 4, 8, 8), (1, 3, 8, 8, 1)])
def test_a_shape_that_does_not_fit(shape: tuple[int, ...], net: Any, tmp_path: Path) -> None:
    refused(net.save(tmp_path), ModelError, "'x'", str(shape), shapes={"x": shape})


def test_a_shape_for_no_input(net: Any, tmp_path: Path) -> None:
    refused(net.save(tmp_path), ModelError, "no input 'y'", shapes={"y": (1,)})


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_without_samples(batch: int, net: Any, tmp_path: Path) -> None:
    refused(net.save(tmp_path), UsageError, f"the batch is {batch}", batch=batch)


def test_a_reshape_to_another_batch(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 4, 4)
    net.gemm(net("Reshape", net("Relu", net.conv("x", 3, 8)), [1, 128]), 128, 2)
    path = net.save(tmp_path)
    assert load_model(path).outputs[0][1] == (1, 2)
    refused(path, UnsupportedError, batch=3)


def test_a_shape_that_depends_on_values(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3)
    path = net.save(tmp_path, net("NonZero", "x"))
    refused(path, UnsupportedError, "'NonZero_0_0' has no shape that is known before the model")


def test_outputs_that_are_no_tensors(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(4)
    path = tmp_path / "sequence.onnx"
    net("SplitToSequence", "x", [2, 2], axis=1)
    proto = net.proto()
    sequence = helper.make_tensor_sequence_value_info(
        net.nodes[-1].output[0], TensorProto.FLOAT, None
    )
    proto.graph.output.append(sequence)
    path.write_bytes(proto.SerializeToString())
    refused(path, UnsupportedError, "1 outputs, and TVM imports 2", "let the model's outputs be")


@pytest.mark.parametrize(
    ("forms", "count"),
    [
        ([("x", (2, 3), "f4")], 2), ([("x", (2, 3), "f4"), ("y", (2,), "f4")], 2),
        ([("x", (2, 3), "f4"), ("y", (3,), "f4")], None), ([("x", (), "f4")], None),
        ([("x", (1, 3), "f4"), ("y", (), "f4")], None),
    ],
)  # fmt: skip
def test_what_the_first_dimensions_count(forms: Any, count: int | None) -> None:
    assert counted_samples(forms) == count
