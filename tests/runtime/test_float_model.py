"""The float model in NumPy, against an independent runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.errors import DataError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.runtime.float_model import FloatModel


@pytest.mark.parametrize("batch", [1, 4])
def test_it_equals_onnxruntime(batch: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the independent float reference")
    x = load_split()[1][:10]
    expected = onnxruntime.InferenceSession(MODEL_PATH).run(None, {"image": x})[0]
    (logits,) = FloatModel(load_model(MODEL_PATH, batch=batch)).run(x)
    assert np.allclose(logits, expected, atol=1e-4)


def test_a_wrong_shape_is_explained() -> None:
    model = FloatModel(load_model(MODEL_PATH))
    with pytest.raises(
        DataError, match=r"digits\.onnx: the input 'image' has shape \[1, 1, 4, 4\]"
    ):
        model.run(np.zeros((1, 1, 4, 4), np.float32))
