"""``tvm-probq calibrate``: a record to a file, continued, and refused where it is foreign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.collect import Collector
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH

Run = Callable[..., Any]


def test_a_record_is_written(run: Run, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    done = run("calibrate", "--card", digits / "card.toml", "--samples", 10, "-o", path)
    assert done.status == 0
    assert done.json["samples"] == 10
    assert done.json["model"] == str(MODEL_PATH)
    record = CalibrationRecord.load(path)
    assert record.samples == 10
    assert record.model_hash == done.json["model_sha256"]
    assert "calibrating" in done.error
    assert str(path) in done.out


def test_ready_inputs_and_a_model_do_as_well(run: Run, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    done = run("calibrate", MODEL_PATH, "--data", digits / "inputs.npz", "-o", path, "--quiet")
    assert done.status == 0
    assert done.json["samples"] == 40
    assert done.error == done.out == ""


def test_the_same_samples_give_the_same_bytes(run: Run, digits: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        run("calibrate", "--card", digits / "card.toml", "--samples", 6, "-o", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_interrupted_run_is_continued(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = digits / "card.toml"
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    run("calibrate", "--card", card, "-o", whole)
    original = Collector.add

    def interrupt(collector: Collector, x: Any, index: int) -> None:
        if index == 35:
            raise KeyboardInterrupt
        original(collector, x, index)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "add", interrupt)
        assert run("calibrate", "--card", card, "-o", part).status == 130
    assert 0 < CalibrationRecord.load(part).samples < 35
    done = run("calibrate", "--card", card, "-o", part)
    assert done.json["resumed_after"] > 0
    assert "continuing" in done.error
    assert part.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.json", "result.json", "whole.json"]


def test_a_record_of_other_data_is_refused(run: Run, digits: Path, record_path: Path) -> None:
    before = record_path.read_bytes()
    done = run("calibrate", MODEL_PATH, "--data", digits / "inputs.npz", "-o", record_path)
    assert done.status == 2
    assert "the calibration record is of other data" in done.error
    assert "delete this one" in done.error
    assert record_path.read_bytes() == before


def test_samples_cannot_be_taken_out(run: Run, digits: Path, record_path: Path) -> None:
    card = digits / "card.toml"
    done = run("calibrate", "--card", card, "--samples", 5, "-o", record_path)
    assert done.status == 2
    assert "holds 40 samples, 5 are asked" in done.error


def test_a_record_of_another_model_is_refused(run: Run, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    CalibrationRecord("another", "data").save(path)
    done = run("calibrate", "--card", digits / "card.toml", "-o", path)
    assert done.status == 2
    assert "the calibration record is of another model" in done.error


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', "no json"])
def test_a_damaged_record_is_explained(run: Run, digits: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    done = run("calibrate", "--card", digits / "card.toml", "-o", path)
    assert done.status == 2
    assert "record" in done.error
    assert "delete it and calibrate again" in done.error
    assert path.read_text() == text


@pytest.mark.parametrize("count", [0, 1, -3])
def test_too_few_samples_are_explained(run: Run, digits: Path, tmp_path: Path, count: int) -> None:
    path = tmp_path / "record.json"
    done = run("calibrate", "--card", digits / "card.toml", f"--samples={count}", "-o", path)
    assert done.status == 2
    assert "calibration sample" in done.error
    assert "at least 2" in done.error
    assert not path.exists()


def test_values_that_are_not_finite_are_named(run: Run, tmp_path: Path) -> None:
    x = np.zeros((40, 1, 8, 8), np.float32)
    x[37, 0, 3, 3] = np.nan
    np.savez(tmp_path / "inputs.npz", image=x)
    path = tmp_path / "record.json"
    done = run("calibrate", MODEL_PATH, "--data", tmp_path / "inputs.npz", "-o", path)
    assert done.status == 2
    assert "inputs.npz, array 'image': sample 37 contains NaN" in done.error


def test_all_zero_and_constant_inputs_are_no_fault(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", image=np.zeros((4, 1, 8, 8), np.float32))
    path = tmp_path / "record.json"
    done = run("calibrate", MODEL_PATH, "--data", tmp_path / "inputs.npz", "-o", path)
    assert (done.status, done.error.count("error")) == (0, 0)


@pytest.mark.parametrize("place", ["/dev/full", "none/record.json", "/proc/record.json"])
def test_a_bad_place_is_explained(run: Run, digits: Path, tmp_path: Path, place: str) -> None:
    card = digits / "card.toml"
    done = run("calibrate", "--card", card, "--samples", 4, "-o", tmp_path / place)
    assert done.status == 2
    assert "the calibration record cannot be written" in done.error
    assert not list(tmp_path.iterdir())


def test_no_source_is_explained(run: Run, tmp_path: Path) -> None:
    done = run("calibrate", "-o", tmp_path / "record.json")
    assert "no model is given" in done.error
    done = run("calibrate", MODEL_PATH, "-o", tmp_path / "record.json")
    assert done.status == 2
    assert "no calibration data is given" in done.error
