"""The bundled network with a calibration, and a study of it."""

from __future__ import annotations

from typing import Any

import pytest

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.planning.study import Study

SAMPLES = 4


@pytest.fixture(scope="session")
def model() -> Model:
    return load_model(MODEL_PATH)


@pytest.fixture(scope="session")
def record(model: Model) -> CalibrationRecord:
    images = load_split()[0][:24]
    return collect(model.mod, (x[None] for x in images), CalibrationRecord(model.sha256, "digits"))


@pytest.fixture
def study(model: Model, record: CalibrationRecord) -> Study:
    layers = ["stem", "block1", "block2", "depthwise", "pointwise", "logits"]
    samples: list[Any] = [(x[None],) for x in load_split()[0][:SAMPLES]]
    return Study(model, plan_of("w8a8"), record, layers, samples)
