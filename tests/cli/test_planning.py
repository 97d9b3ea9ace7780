"""``plan`` keeps its budget, says why, repeats byte for byte, and compiles."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.errors import PlanError
from tvm_probq.plan.plan import Plan
from tvm_probq.planning import cluster
from tvm_probq.planning.options import Option
from tvm_probq.planning.study import Study
from tvm_probq.planning.subject import Subject

Run = Callable[..., Any]
TARGET = ("--target", "x86-64")


@pytest.fixture(scope="module")
def planned(digits: Path, record_path: Path) -> Path:
    """A plan of the bundled network at 0.8 of its size, measured on eight samples."""
    from tvm_probq.cli.main import main

    path = digits / "plan.toml"
    options = ["--card", str(digits / "card.toml"), "--calibration", str(record_path), "--quiet"]
    options += ["--samples", "8", "--budget", "size=0.8", *TARGET, "-o", str(path)]
    assert main(["plan", *options]) == 0
    return path


def again(run: Run, planned: Path, output: Path, *extra: str, budget: str = "size=0.8") -> Any:
    """Plan once more from the sensitivities of `planned`."""
    folder = planned.parent
    return run(
        "plan", "--card", folder / "card.toml", "--calibration", folder / "record.json",
        "--samples", "8", "--budget", budget, *TARGET, "-o", output,
        "--cache", planned.with_suffix(".sensitivity.json"), *extra,
    )  # fmt: skip


def test_a_plan_compiles_to_what_it_promises(
    run: Run, planned: Path, digits: Path, tmp_path: Path
) -> None:
    text = planned.read_text(encoding="utf-8")
    assert text.startswith("# budget size=0.8, target x86-64, mode predicted, least noise")
    plan = Plan.load(planned)
    widths = {layer.weight_bits for layer in plan.layers.values()}
    assert widths <= {4, 6, 8}
    assert min(widths) < 8
    reason = re.compile(r"\S+: \d+ bytes, ([\d.e+-]+ us, )?adds \S+ noise")
    assert all(reason.match(layer.reason) for layer in plan.layers.values())
    options = ["--calibration", digits / "record.json", *TARGET]
    sizes = {}
    for name, more in {"plan": ["--plan", planned], "uniform": ["--scheme", "w8a8"]}.items():
        done = run("compile", MODEL_PATH, *options, *more, "-o", tmp_path / f"{name}.probq")
        assert done.status == 0, done.error
        sizes[name] = done.json["parameter_bytes"]
    assert sizes["plan"] <= 0.8 * sizes["uniform"]
    assert f"# measured: {sizes['plan']} bytes" in text
    assert f"# uniform w8a8: {sizes['uniform']} bytes" in text


def test_prediction_and_measurement_agree(run: Run, planned: Path, tmp_path: Path) -> None:
    done = again(run, planned, tmp_path / "again.toml")
    predicted, real = done.json["predicted"], done.json["measured"]
    assert predicted["parameter_bytes"] == real["parameter_bytes"]
    assert abs(predicted["sqnr_db"] - real["sqnr_db"]) < 2
    assert real["sqnr_db"] < done.json["uniform"]["sqnr_db"]
    assert done.json["gap"] < 1e-6
    greedy = done.json["greedy"]
    assert greedy["added_noise"] >= predicted["added_noise"] * (1 - 1e-9)
    assert greedy["share"] <= 0.8
    assert f"dB, adds {greedy['added_noise']:.4g} noise" in done.out
    shares = [row["share"] for row in done.json["front"]]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    for said in (
        "measured: ",
        "predicted: ",
        "a greedy choice: ",
        "depthwise",
        "same class as float",
    ):
        assert said in done.out


def test_the_same_inputs_give_the_same_bytes(
    run: Run, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, anew = tmp_path / "cached.toml", tmp_path / "anew.toml"
    plots = [path.with_suffix(".svg") for path in (cached, anew)]
    with monkeypatch.context() as patch:
        patch.setattr(Study, "alone", None)  # nothing is measured again,
        patch.setattr(Subject, "sizes", None)  # and nothing sized
        assert again(run, planned, cached, "--plot", plots[0]).status == 0
    other = tmp_path / "sensitivity.json"
    assert again(run, planned, anew, "--cache", other, "--plot", plots[1]).status == 0
    assert plots[0].read_bytes() == plots[1].read_bytes()
    assert cached.read_bytes() == anew.read_bytes() == planned.read_bytes()
    assert other.read_bytes() == planned.with_suffix(".sensitivity.json").read_bytes()


@pytest.mark.slow
def test_processes_and_interruptions_change_nothing(
    run: Run, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, done, cache = Study.alone, 0, tmp_path / "cache.json"

    def interrupted(study: Study, layer: str, option: Option) -> Any:
        nonlocal done
        if done == 5:
            raise KeyboardInterrupt
        done += 1
        return alone(study, layer, option)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "alone", interrupted)
        assert again(run, planned, tmp_path / "plan.toml", "--cache", cache).status == 130
    assert not (tmp_path / "plan.toml").exists()
    extra = ("--cache", cache, "--jobs", "2")
    finished = again(run, planned, tmp_path / "plan.toml", *extra)
    assert finished.status == 0, finished.error
    assert "left to measure" in finished.error
    assert (tmp_path / "plan.toml").read_bytes() == planned.read_bytes()
    assert cache.read_bytes() == planned.with_suffix(".sensitivity.json").read_bytes()


def test_the_plot_shows_the_front_and_the_plan(run: Run, planned: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.svg"
    done = again(run, planned, tmp_path / "plan.toml", "--plot", path)
    assert done.json["plot"] == str(path)
    root = ElementTree.parse(path).getroot()
    titles = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "digits, x86-64, predicted"
    for row in done.json["front"]:
        assert f"{row['parameter_bytes']} bytes, {row['sqnr_db']:.2f} dB" in titles
    said = done.json["predicted"]
    assert f"the plan: {said['parameter_bytes']} bytes, {said['sqnr_db']:.2f} dB" in titles
    nowhere = again(run, planned, tmp_path / "plan.toml", "--plot", tmp_path / "no" / "front.svg")
    assert nowhere.status == 2
    assert "cannot be written" in nowhere.error


def test_the_fewest_bytes_within_a_drop(run: Run, planned: Path, tmp_path: Path) -> None:
    shares = []
    for drop in ("0.5", "10", "30"):
        done = again(run, planned, tmp_path / "drop.toml", budget=f"drop={drop}")
        lost = done.json["uniform"]["sqnr_db"] - done.json["predicted"]["sqnr_db"]
        assert 0 <= lost <= float(drop) + 1e-6
        shares.append(done.json["predicted"]["share"])
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_float_layers_for_less_noise_than_8_bits(
    run: Run, planned: Path, tmp_path: Path, digits: Path
) -> None:
    path, options = tmp_path / "better.toml", ["--option", "float", "--option", "w4a8"]
    options += ["--samples", "32", "--cache", str(tmp_path / "cache.json")]
    done = again(run, planned, path, *options, budget="drop=-1")
    assert done.status == 0, done.error
    gained = done.json["measured"]["sqnr_db"] - done.json["uniform"]["sqnr_db"]
    assert gained > 0.5
    plan = Plan.load(path)
    wide = [n for n, layer in plan.layers.items() if layer.mode == "float"]
    assert 0 < len(wide) < len(done.json["layers"])
    assert any("adds -" in plan.layer(name).reason for name in wide)
    compiled = run(
        "compile", MODEL_PATH, "--calibration", digits / "record.json", *TARGET, "--plan", path,
        "-o", tmp_path / "better.probq",
    )  # fmt: skip
    assert compiled.json["parameter_bytes"] == done.json["measured"]["parameter_bytes"]
    refused = again(run, planned, path, *options, budget="drop=-100")
    assert refused.status != 0
    assert "no choice of options meets the budget" in refused.error


def test_other_losses_options_and_layers(run: Run, planned: Path, tmp_path: Path) -> None:
    extra = ["--loss", "kl", "--option", "w4a8:correction=static"]
    by_kl = again(run, planned, tmp_path / "kl.toml", *extra)
    assert by_kl.json["loss"] == "kl"
    assert {row["option"] for row in by_kl.json["layers"]} == {"w8a8", extra[-1]}
    cache = str(tmp_path / "skipped.json")
    extra = ["--skip", "stem", "--cache", cache, "--option", "w4a8:correction=static"]
    skipped = again(run, planned, tmp_path / "skipped.toml", *extra, budget="size=0.9")
    assert "stem" not in {row["name"] for row in skipped.json["layers"]}
    assert Plan.load(tmp_path / "skipped.toml").layer("stem").mode == "float"


@pytest.mark.parametrize(
    ("budget", "said"),
    [("size=0.1", "the smallest options take"), ("size=x", "is no budget"),
     ("speed=2", "is no budget")],
)  # fmt: skip
def test_bad_budgets(run: Run, planned: Path, tmp_path: Path, budget: str, said: str) -> None:
    done = again(run, planned, tmp_path / "bad.toml", budget=budget)
    assert done.status == 2
    assert said in done.error
    assert "What to do" in done.error
    assert not (tmp_path / "bad.toml").exists()


def test_other_samples_need_another_cache(run: Run, planned: Path, tmp_path: Path) -> None:
    done = again(run, planned, tmp_path / "other.toml", "--samples", "4")
    assert done.status == 2
    assert "its samples differ" in done.error
    assert "--cache" in done.error


def test_samples_that_the_record_has_not_seen(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set has 40: after a record of 30 there are ten more, after one of 38 two."""
    taken: list[Any] = []

    def reference(study: Study) -> Any:
        taken.append(np.concatenate([x for (x,) in study.samples]))
        raise PlanError("seen enough")

    monkeypatch.setattr(Study, "reference", reference)
    for count, first in ((30, 30), (38, 36), (40, 36)):
        record = tmp_path / f"{count}.json"
        data = ["--data", digits / "inputs.npz"]
        run("calibrate", MODEL_PATH, *data, "--samples", str(count), "-o", record)
        done = run(
            "plan", MODEL_PATH, *data, "--calibration", record, "--samples", "4",
            "--budget", "size=0.8", *TARGET, "-o", tmp_path / f"{count}.toml",
        )  # fmt: skip
        assert "seen enough" in done.error
        with np.load(digits / "inputs.npz") as arrays:
            np.testing.assert_array_equal(taken[-1], arrays["image"][first : first + 4])


def test_a_budget_of_activations(
    run: Run, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = again(run, planned, tmp_path / "peak.toml", budget="peak=1000000")
    assert done.status == 0, done.error
    assert {row["option"] for row in done.json["layers"]} == {"w8a8"}  # nothing asks for less
    peak = done.json["peak_activation_bytes"]["measured"]
    assert f"peak of activations: {peak} bytes" in done.out
    # Without the sums that a predicted correction reads it is a little less.
    less = again(run, planned, tmp_path / "peak.toml", budget=f"peak={peak - 1}")
    assert {row["option"] for row in less.json["layers"]} == {"w8a8:correction=static"}
    assert less.json["peak_activation_bytes"]["measured"] < peak
    assert less.json["peak_activation_bytes"]["uniform"] == peak
    monkeypatch.setattr(Study, "reference", None)  # said before anything is measured
    anew = ("--cache", str(tmp_path / "anew.json"))
    done = again(run, planned, tmp_path / "small.toml", *anew, budget="peak=1000")
    assert done.status == 2
    assert f"activations take {peak} bytes at their peak, the budget is 1000" in done.error
    assert "alive together are " in done.error
    assert not (tmp_path / "small.toml").exists()


def test_workers_are_processes_or_those_of_dask(
    run: Run, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "plan.toml"
    both = again(run, planned, output, "--jobs", "2", "--dask", "tcp://127.0.0.1:1")
    assert both.status == 2
    assert "--jobs and --dask are both given" in both.error
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    missing = again(run, planned, output, "--dask", "tcp://127.0.0.1:1")
    assert missing.status != 0
    assert "pip install 'tvm_probq[cluster]'" in missing.error


def test_an_unreachable_scheduler_loses_nothing(
    run: Run, planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="the cluster's scheduler")
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    cache = tmp_path / "cache.json"
    cache.write_bytes(planned.with_suffix(".sensitivity.json").read_bytes())
    extra = ("--dask", "tcp://127.0.0.1:1", "--option", "w5a8", "--cache", cache)
    done = again(run, planned, tmp_path / "plan.toml", *extra)
    assert done.status == 2
    assert "--dask tcp://127.0.0.1:1: the Dask scheduler cannot be reached" in done.error
    assert again(run, planned, tmp_path / "plan.toml", "--cache", cache).status == 0
    assert (tmp_path / "plan.toml").read_bytes() == planned.read_bytes()
