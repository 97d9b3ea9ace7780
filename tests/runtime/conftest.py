"""A small compiled model that needs none of the quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq.build.artefact import save_artefact
from tvm_probq.build.compiled import Compiled, LayerReport
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

BATCH = 2
PROFILE = "x86-64"


def make_compiled() -> Compiled:
    """Compile ``y = relu(x @ w)`` for a batch of two."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((BATCH, 3), "float32"))
    weights = np.arange(12, dtype=np.float32).reshape(3, 4) - 6
    with builder.function("main", [x]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, relax.const(weights)))
            out = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(out)
    mod = builder.finalize()
    return Compiled(
        executable=tvm.compile(mod, load_profile(PROFILE).target()),
        integer_module=mod,
        layers=(LayerReport("product", "dense", 8, 8, accumulator="int32"),),
        peak_activation_bytes=56,
        parameter_bytes=48,
        mode="predicted",
        scheme="w8a8",
        inputs=(("x", (BATCH, 3), "float32"),),
        outputs=(("y", (BATCH, 4), "float32"),),
        target=PROFILE,
    )


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    """The compiled model."""
    return make_compiled()


@pytest.fixture
def artefact_path(compiled: Compiled, tmp_path: Path) -> Path:
    """The model saved."""
    path = tmp_path / "model.probq"
    record = CalibrationRecord("model hash", "data hash", samples=7)
    plan, profile = plan_of("w8a8"), load_profile(PROFILE)
    save_artefact(compiled, plan, record, profile, path, model_sha256="model hash", seed=3)
    return path
