"""The bundled network and its data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tvm_probq.data.metrics import top1
from tvm_probq.demo import digits, train_digits
from tvm_probq.demo.digits_model import NORM_PARTS, build_model
from tvm_probq.errors import EnvironmentProblem


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """The bundled network."""
    return onnx.load(digits.MODEL_PATH)


def test_the_split_is_the_same_every_time() -> None:
    first, second = digits.load_split(), digits.load_split()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_split_has_the_stated_form() -> None:
    calibration, evaluation, labels = digits.load_split()
    assert calibration.shape == (128, 1, 8, 8)
    assert evaluation.shape == (600, 1, 8, 8)
    assert calibration.dtype == evaluation.dtype == np.float32
    assert labels.shape == (600,)
    assert labels.dtype == np.int64
    assert evaluation.min() == 0.0
    assert evaluation.max() == 1.0
    assert np.bincount(labels).min() >= 55


def test_calibration_images_are_training_images_alone() -> None:
    train_x, train_y, evaluation_x, evaluation_y = digits.load_all()
    calibration, evaluation, labels = digits.load_split()
    assert len(train_x) + len(evaluation_x) == len(train_y) + len(evaluation_y) == 1797
    assert np.array_equal(calibration, train_x[:128])
    assert np.array_equal(evaluation, evaluation_x)
    assert np.array_equal(labels, evaluation_y)
    assert not {image.tobytes() for image in calibration} & {i.tobytes() for i in evaluation}


def test_a_missing_scikit_learn_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install scikit-learn"):
        digits.load_split()


def test_the_model_is_small_and_valid(model: onnx.ModelProto) -> None:
    assert digits.MODEL_PATH.stat().st_size < 200_000
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    shape = model.graph.input[0].type.tensor_type.shape
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["batch", 1, 8, 8]


def test_the_model_has_what_importing_must_handle(model: onnx.ModelProto) -> None:
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 5
    assert {"Add", "Relu", "Clip", "GlobalAveragePool", "Flatten", "Gemm"} <= set(kinds)
    groups = [
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name == "group"
    ]
    assert 16 in groups


def test_accuracy_on_images_never_seen(model: onnx.ModelProto) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the float model")
    _, x, y = digits.load_split()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert top1(session.run(None, {"image": x})[0], y) >= 0.98


def test_the_builder_gives_the_bundled_model(model: onnx.ModelProto) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert build_model(weights) == model


def test_norms_are_more_than_the_identity(model: onnx.ModelProto) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for part, trivial in zip(NORM_PARTS, (1, 0, 0, 1), strict=True):
        assert not np.allclose(weights[f"block1_norm.{part}"], trivial, atol=1e-3)


def test_training_without_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install torch"):
        train_digits.main(["--output", "unused.onnx"])


def test_augmentation_keeps_shape_and_range() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((6, 1, 8, 8), np.float32)
    result = train_digits.augment(images, rng)
    assert result.shape == images.shape
    assert result.dtype == np.float32
    assert 0.0 <= result.min() <= result.max() <= 1.0


@pytest.mark.slow
def test_training_reproduces_the_bundled_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    if not torch.__version__.startswith("2.13.0"):
        pytest.skip("the bundled file was written by PyTorch 2.13.0")
    output = tmp_path / "digits.onnx"
    train_digits.main(["--output", str(output)])
    fresh, bundled = onnx.load(output), onnx.load(digits.MODEL_PATH)
    # Another processor may round the last bits differently: the same graph and close weights.
    assert fresh.graph.node == bundled.graph.node
    for new, old in zip(fresh.graph.initializer, bundled.graph.initializer, strict=True):
        assert np.allclose(numpy_helper.to_array(new), numpy_helper.to_array(old), atol=1e-2)
