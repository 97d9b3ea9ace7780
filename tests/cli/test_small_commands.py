"""``tvm-probq inspect``, ``targets`` and ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tvm_probq import environment
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.environment import Problem
from tvm_probq.errors import TargetError
from tvm_probq.target import profile as profiles

Run = Callable[..., Any]


def test_inspect_shows_every_layer(run: Run, artefact_path: Path) -> None:
    done = run("inspect", artefact_path)
    assert done.status == 0, done.error
    layers = {layer["name"]: layer for layer in done.json["layers"]}
    for name in ("stem", "block1", "block2", "depthwise", "pointwise", "logits"):
        assert layers[name]["mode"] == "predicted"
        assert layers[name]["weight_bits"] == 8
        assert layers[name]["stored_bytes"] == 0
        assert layers[name]["workspace_bytes"] <= 32 * 1024
        assert name in done.out
    assert done.json["peak_activation_bytes"] > 0
    assert done.json["parameter_bytes"] > 0
    assert done.json["batch"] == 2


def test_inspect_measures_coverage_on_a_card(run: Run, digits: Path, artefact_path: Path) -> None:
    done = run("inspect", artefact_path, "--card", digits / "card.toml", "--limit", 10)
    assert done.status == 0, done.error
    shares = {layer["name"]: layer["coverage"] for layer in done.json["layers"]}
    assert shares["logits"] is None
    assert all(0.9 < shares[name] <= 1.0 for name in ("stem", "block1", "pointwise"))
    assert "coverage" in done.out


def test_a_card_of_another_model_is_refused(
    run: Run, digits: Path, artefact_path: Path, tmp_path: Path
) -> None:
    model = onnx.load(MODEL_PATH)
    model.doc_string = "another"
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    text = (digits / "card.toml").read_text().replace(str(MODEL_PATH), "other.onnx")
    for name in ("calibration", "evaluation"):
        (tmp_path / f"{name}.npz").write_bytes((digits / f"{name}.npz").read_bytes())
    (tmp_path / "card.toml").write_text(text)
    done = run("inspect", artefact_path, "--card", tmp_path / "card.toml")
    assert done.status == 2
    assert "the artefact is of another model" in done.error


def test_targets_lists_the_default(run: Run) -> None:
    done = run("targets")
    names = [entry["name"] for entry in done.json["targets"]]
    assert {"x86-64", "x86-avx2", "x86-vnni"} <= set(names)
    assert done.json["host"] == profiles.host_profile().name
    assert f"{done.json['host']} *" in done.out


def test_a_broken_profile_does_not_hide_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_name: str) -> None:
        raise TargetError("it is broken")

    monkeypatch.setattr(profiles, "load_profile", fail)
    done = run("targets")
    assert done.status == 0
    assert all(entry["error"] == "it is broken" for entry in done.json["targets"])
    assert done.json["host"] == ""


@pytest.mark.parametrize(("severity", "status"), [("fatal", 1), ("warning", 0)])
def test_doctor_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, severity: Any, status: int
) -> None:
    problem = Problem("disk", severity, "it is full", "empty it")
    monkeypatch.setattr(environment, "full_check", lambda: [problem])
    done = run("doctor")
    assert done.status == status
    assert done.json["ok"] is (status == 0)
    assert done.json["problems"][0]["name"] == "disk"
    assert "disk: it is full\n    what to do: empty it" in done.out
