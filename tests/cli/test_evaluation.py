"""``tvm-probq eval``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.report.accuracy import EQUAL_DB

Run = Callable[..., Any]


def test_a_float_model(run: Run, digits: Path) -> None:
    done = run("eval", MODEL_PATH, "--card", digits / "card.toml")
    assert done.status == 0, done.error
    assert done.json["metric"] == "top1"
    assert done.json["count"] == 600
    assert done.json["mode"] == "float"
    assert done.json["value"] >= 0.97
    assert "sqnr_db" not in done.json
    assert "evaluating" in done.error


def test_a_float_model_equals_onnxruntime(run: Run, digits: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the independent float reference")
    with np.load(digits / "evaluation.npz") as data:
        x, y = data["x"], data["y"]
    session = onnxruntime.InferenceSession(MODEL_PATH)
    inputs = np.ascontiguousarray((x.astype(np.float32) / 255).transpose(0, 3, 1, 2))
    logits = session.run(None, {"image": inputs})[0]
    done = run("eval", MODEL_PATH, "--card", digits / "card.toml", "--batch", 7)
    assert done.json["value"] == pytest.approx((logits.argmax(axis=1) == y).mean(), abs=1e-9)


def test_an_artefact_paired_with_its_model(run: Run, digits: Path, artefact_path: Path) -> None:
    card = digits / "card.toml"
    done = run("eval", artefact_path, "--card", card, "--reference", MODEL_PATH)
    assert done.status == 0, done.error
    assert done.json["mode"] == "predicted"
    assert done.json["scheme"] == "w8a8"
    assert done.json["agreement"] >= 0.97
    assert 15 < done.json["sqnr_db"] < EQUAL_DB
    assert abs(done.json["value"] - done.json["reference_value"]) < 0.02
    assert "agreement" in done.out


def test_a_model_equals_itself(run: Run, digits: Path) -> None:
    options = ["--card", digits / "card.toml", "--limit", 10, "--reference", MODEL_PATH]
    done = run("eval", MODEL_PATH, *options)
    assert (done.json["count"], done.json["agreement"]) == (10, 1.0)
    assert done.json["sqnr_db"] == EQUAL_DB


def test_the_number_of_samples_read_at_a_time_changes_nothing(
    run: Run, digits: Path, artefact_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm_probq.cli import evaluation

    options = ["--card", digits / "card.toml", "--limit", 31, "--reference", MODEL_PATH]
    first = run("eval", artefact_path, *options).json
    monkeypatch.setattr(evaluation, "BLOCK", 5)
    assert run("eval", artefact_path, *options).json == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corrupt", "contrast:3"], "corruptions are defined for uint8 RGB images"),
        (["--corrupt", "fog:9"], "the corruption 'fog:9'"),
        (["--reference", "none.onnx"], "none.onnx: the model cannot be read"),
    ],
)
def test_bad_options_are_explained(
    run: Run, digits: Path, options: list[str], message: str
) -> None:
    done = run("eval", MODEL_PATH, "--card", digits / "card.toml", *options)
    assert done.status == 2
    assert message in done.error


def test_corruptions_reach_the_images(run: Run, shared_data: Path) -> None:
    card = shared_data / "cards" / "cifar10_resnet20.toml"
    model = shared_data / "models" / "cifar10_resnet20.onnx"
    options = ["eval", model, "--card", card, "--limit", 48]
    clean, shifted = run(*options).json, run(*options, "--corrupt", "contrast:5").json
    assert shifted["corruption"] == "contrast:5"
    assert shifted["value"] < clean["value"]


def test_a_language_model(run: Run, shared_data: Path) -> None:
    card = shared_data / "cards" / "text_stories260k.toml"
    model = shared_data / "models" / "text_stories260k.onnx"
    done = run("eval", model, "--card", card, "--reference", model)
    assert done.json["value"] == pytest.approx(0.5912, abs=2e-4)
    assert done.json["perplexity"] == pytest.approx(5.23, abs=5e-3)
    assert done.json["reference_perplexity"] == done.json["perplexity"]
    assert "perplexity       5.231, of the reference 5.231" in done.out


def test_a_detector(run: Run, shared_data: Path) -> None:
    card = shared_data / "cards" / "coco_nanodet_m_320.toml"
    model = shared_data / "models" / "coco_nanodet_m_320.onnx"
    done = run("eval", model, "--card", card, "--limit", 3, "--reference", model)
    assert done.status == 0, done.error
    assert (done.json["metric"], done.json["count"], done.json["batch"]) == ("map50", 3, 1)
    assert done.json["value"] == done.json["reference_value"] > 0.3
    assert (done.json["agreement"], done.json["sqnr_db"]) == (1.0, EQUAL_DB)
