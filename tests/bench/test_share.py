"""The surrogate's share from made-up times and real kernels."""

from __future__ import annotations

from typing import Any

import pytest

from tvm_probq.bench.ours import of_model
from tvm_probq.bench.share import kind_of, show_share, surrogate_share
from tvm_probq.bench.timing import Timing
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.target.profile import host_profile


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("probq_predict5", "predict"),
        ("probq_patch_sums", "patch_sums"),
        ("probq_sums_12", "sums"),
        ("layer3", ""),
        ("fused_predict", ""),
    ],
)
def test_the_kind_of_a_kernel_is_in_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_both_shares(model: Model, x: Any) -> None:
    record = collect(model.mod, [x, x + 1], CalibrationRecord(model.sha256, "made up"))
    predicted = of_model(model, record, ["predicted"], "w8a8", host_profile())["predicted"]
    times = {
        name: Timing((ms,) * 3, (ms,) * 3, (ms,) * 3)
        for name, ms in (("static", 90_000_000), ("predicted", 100_000_000))
    }
    share = surrogate_share(predicted, x, times, "process_cpu")
    assert share["by_difference"] == pytest.approx(0.1)
    # Six layers, each with sums of its input and a prediction; some of them share their sums.
    assert share["kernel_calls"] >= 6
    assert share["by_kernels"] == pytest.approx(share["kernels_ms"] / 100)
    assert share["measuring_input_ms"] > 0
    assert "10.0 % as 1 - static / predicted" in show_share(share)
