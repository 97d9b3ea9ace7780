"""``tvm-probq compile``: options to an artefact, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.build import compile as building
from tvm_probq.build.artefact import load_artefact
from tvm_probq.build.linker import find_linker
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.errors import KernelError
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.host import host_architecture

Run = Callable[..., Any]


def test_a_card_is_all_it_needs(run: Run, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    done = run("compile", "--card", digits / "card.toml", "--samples", 12, "-o", path)
    assert done.status == 0, done.error
    artefact = load_artefact(path)
    assert artefact.manifest.mode == done.json["mode"] == "predicted"
    assert artefact.manifest.scheme == done.json["scheme"] == "w8a8"
    assert artefact.manifest.calibration_samples == 12
    assert artefact.plan == plan_of("w8a8", "predicted")
    assert done.json["size_bytes"] == path.stat().st_size
    assert done.json["integer_share"] == 1.0
    assert done.json["float_islands"] == []
    shown = f"100.00 % of {done.json['macs']} multiply-accumulates in integers"
    assert shown in done.out
    assert shown in run("inspect", path).out
    assert not artefact.manifest.random_calibration
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.probq", "result.json"]


def test_the_same_options_give_the_same_bytes(
    run: Run, digits: Path, record_path: Path, artefact_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "again.probq"
    run("compile", MODEL_PATH, "--calibration", record_path, "--batch", 2, "-o", path)
    assert path.read_bytes() == artefact_path.read_bytes()


def test_a_record_and_a_fresh_calibration_are_the_same(
    run: Run, digits: Path, record_path: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("record.probq", "fresh.probq")]
    run("compile", MODEL_PATH, "--calibration", record_path, "-o", paths[0])
    run("compile", "--card", digits / "card.toml", "-o", paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("target", ["x86-64", "x86-avx2"])
@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_every_mode_and_target(
    run: Run, record_path: Path, tmp_path: Path, mode: str, target: str
) -> None:
    path = tmp_path / "model.probq"
    options = ["--mode", mode, "--scheme", "w8a4", "--target", target]
    done = run("compile", MODEL_PATH, "--calibration", record_path, "-o", path, *options)
    assert done.status == 0, done.error
    manifest = load_artefact(path).manifest
    assert (manifest.mode, manifest.scheme, manifest.target.name) == (mode, "w8a4", target)


@pytest.mark.parametrize("mode", ["float", "predicted"])
def test_another_architecture(
    run: Run, digits: Path, record_path: Path, tmp_path: Path, mode: str
) -> None:
    if host_architecture() == "aarch64":
        pytest.skip("this machine runs code for 64-bit ARM")
    try:
        find_linker("aarch64-linux-gnu")
    except KernelError as error:
        pytest.skip(str(error))
    path = tmp_path / "model.probq"
    options = ["--mode", mode, "--target", "arm-a76"]
    options += [] if mode == "float" else ["--calibration", record_path]
    done = run("compile", MODEL_PATH, *options, "-o", path)
    assert done.status == 0, done.error
    shown = run("inspect", path)
    assert "arm-a76" in shown.out
    assert ("sdot" in shown.out) == (mode == "predicted")
    done = run("eval", path, "--card", digits / "card.toml", "--limit", 4)
    assert done.status == 2
    assert "the artefact is for aarch64 processors, this is" in done.error


def test_a_float_model_needs_no_data(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "float.probq"
    done = run("compile", MODEL_PATH, "--mode", "float", "-o", path)
    assert done.status == 0, done.error
    assert load_artefact(path).record is None


def test_random_calibration_is_in_the_manifest(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    options = ["--random-calibration", 4, "--seed", 5]
    done = run("compile", MODEL_PATH, *options, "-o", path)
    assert done.status == 0, done.error
    manifest = load_artefact(path).manifest
    assert manifest.random_calibration
    assert (manifest.seed, manifest.calibration_samples) == (5, 4)
    assert "for latency alone" in done.out
    assert "RANDOM" in run("inspect", path).out


def test_a_plan_file_is_followed(run: Run, record_path: Path, tmp_path: Path) -> None:
    plan = plan_of("w4a8", "static", observer="mse")
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    path = tmp_path / "model.probq"
    options = ["--plan", tmp_path / "plan.toml", "--calibration", record_path]
    assert run("compile", MODEL_PATH, *options, "-o", path).status == 0
    assert load_artefact(path).plan == plan


def test_a_skipped_layer_stays_float(run: Run, record_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    options = ["--calibration", record_path, "-o", path]
    assert run("compile", MODEL_PATH, *options).status == 0
    name = next(x.name for x in load_artefact(path).manifest.layers if x.op == "conv2d")
    assert run("compile", MODEL_PATH, "--skip", name, *options).status == 0
    skipped = load_artefact(path)
    assert {x.name for x in skipped.manifest.layers if x.mode == "float"} == {name}
    assert skipped.plan.layer(name).mode == "float"
    done = run("compile", MODEL_PATH, "--skip", "no_such*", *options)
    assert done.status == 2
    assert "--skip no_such* matches no layer" in done.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "arm"], "there is no target profile 'arm'"),
        (["--scheme", "w9a9"], "'w9a9' is no scheme"),
        (["--scheme", "w8a8s", "--mode", "dynamic"], "but the mode asked is dynamic"),
        (["--coverage", "2"], "coverage is 2.0"),
        (["--plan", "none.toml"], "the plan cannot be read"),
        (["--data", "a.npz", "--random-calibration", "3"], "--data and --random-calibration are"),
        (["--calibration", "none.json"], "the calibration record cannot be read"),
        (["--data", "none.npz"], "none.npz: the file cannot be read"),
        (["--shape", "img=1,1,8,8"], "the model has no input 'img'"),
        ([], "no calibration data is given"),
    ],
)
def test_bad_options_are_explained(
    run: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    done = run("compile", MODEL_PATH, *options, "-o", tmp_path / "model.probq")
    assert done.status == 2
    assert message in done.error
    assert "Traceback" not in done.error
    assert not list(tmp_path.iterdir())


def test_a_record_of_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    CalibrationRecord("another", "data").save(tmp_path / "record.json")
    options = ["--calibration", tmp_path / "record.json"]
    done = run("compile", MODEL_PATH, *options, "-o", tmp_path / "model.probq")
    assert done.status == 2
    assert "the calibration record is of another model" in done.error


def test_an_interrupt_leaves_nothing(
    run: Run, record_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "compile_model", interrupt)
    options = ["--calibration", record_path, "-o", tmp_path / "model.probq"]
    assert run("compile", MODEL_PATH, *options).status == 130
    assert not list(tmp_path.iterdir())
