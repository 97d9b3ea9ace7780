"""What an artefact says of its layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tvm_probq.build.compiled import LayerReport
from tvm_probq.build.manifest import Manifest, TargetNeeds
from tvm_probq.ir.islands import Island
from tvm_probq.report.inspection import inspection, show_inspection

CONTRACT = {
    "name",
    "op",
    "weight_bits",
    "activation_bits",
    "mode",
    "accumulator",
    "workspace_bytes",
    "scratch_bytes",
    "instruction",
}
GOLDEN = Path(__file__).with_name("inspection.txt")


@pytest.fixture
def manifest() -> Manifest:
    """A manifest of one integer and one float layer."""
    layers = (
        LayerReport(
            "conv1", "conv2d", 8, 8, "predicted", "moments (mse)", "int32: 20 bits", 960, 1024,
            "vpdpbusd", "columns=7",
        ),
        LayerReport("tail", "softmax", 0, 32, "float", reason="no integer kernel"),
    )  # fmt: skip
    return Manifest(
        versions={"tvm_probq": "0.1", "apache-tvm": "0.27"},
        target=TargetNeeds("x86-vnni", {"kind": "llvm"}, "x86_64", ("avx512vnni",)),
        model_sha256="abc",
        calibration_sha256="def",
        calibration_samples=128,
        random_calibration=False,
        seed=0,
        mode="predicted",
        scheme="w8a8",
        batch=2,
        inputs=(("image", (2, 1, 8, 8), "float32"),),
        outputs=(("logits", (2, 10), "float32"),),
        database="x86-vnni.json 0123",
        layers=layers,
        peak_activation_bytes=4096,
        parameter_bytes=2000,
        members={},
        macs=2000,
        integer_macs=1990,
        islands=(Island("tail", ("exp", "nn.softmax"), 10, "softmax stays float"),),
    )


def test_the_json_form_keeps_the_contract(manifest: Manifest) -> None:
    result = inspection(manifest)
    assert all(set(layer) >= CONTRACT for layer in result["layers"])
    assert result["peak_activation_bytes"] == 4096
    assert result["parameter_bytes"] == 2000
    assert result["integer_share"] == 0.995
    assert result["float_islands"] == [
        {
            "name": "tail", "operators": ["exp", "nn.softmax"], "macs": 10,
            "reason": "softmax stays float",
        }
    ]  # fmt: skip


def test_the_view_for_people(manifest: Manifest) -> None:
    assert show_inspection(inspection(manifest)) == GOLDEN.read_text().rstrip()


def test_measured_coverage_has_a_column(manifest: Manifest) -> None:
    result = inspection(manifest, {"conv1": 0.9991})
    assert [layer["coverage"] for layer in result["layers"]] == [0.9991, None]
    text = show_inspection(result)
    assert "coverage" in text
    assert "99.91 %" in text


def test_random_calibration_is_loud(manifest: Manifest) -> None:
    text = show_inspection(inspection(replace(manifest, random_calibration=True)))
    assert "RANDOM inputs" in text


def test_a_float_model_has_no_calibration(manifest: Manifest) -> None:
    text = show_inspection(inspection(replace(manifest, calibration_samples=0)))
    assert "calibration       none" in text
