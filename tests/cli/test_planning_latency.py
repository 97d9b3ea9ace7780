"""``plan`` under a budget of time: what it promises, by which estimates, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.cli.main import main
from tvm_probq.latency import estimator as estimators
from tvm_probq.latency.kernels import KernelCall
from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.target import profile as profiles

Run = Callable[..., Any]
OPTIONS = ("--option", "w4a8:correction=static", "--option", "w8a8:correction=static")


class MadeUp:
    """A machine whose kernels take a time that depends on the bytes of their constants."""

    measured = True
    source = "made-up times"

    def __init__(self, call_us: float, byte_us: float) -> None:
        self.call_us, self.byte_us = call_us, byte_us
        self.identity = f"{call_us} {byte_us}"

    def us(self, kernels: Sequence[KernelCall], _macs: Sequence[float]) -> Any:
        sizes = np.array([k.count("constant_bytes") for k in kernels])
        return self.call_us + self.byte_us * sizes

    def spread_us(self, _kernels: Sequence[KernelCall]) -> None:
        """Nobody knows."""


@pytest.fixture(scope="module")
def sensitivities(digits: Path, record_path: Path) -> Path:
    """Of the bundled network, measured on eight samples."""
    cache = digits / "latency.sensitivity.json"
    options = ["--card", str(digits / "card.toml"), "--calibration", str(record_path), "--quiet"]
    options += ["--samples", "8", "--budget", "size=0.8", "--target", "x86-64", *OPTIONS]
    output = str(digits / "latency.toml")
    assert main(["plan", *options, "--cache", str(cache), "-o", output]) == 0
    return cache


@pytest.fixture
def plan(run: Run, sensitivities: Path, tmp_path: Path) -> Run:
    """Plan with some budgets and options."""
    folder, cache = sensitivities.parent, tmp_path / "cache.json"
    shutil.copy(sensitivities, cache)

    def call(*extra: str | Path, target: str = "x86-64") -> Any:
        return run(
            "plan", "--card", folder / "card.toml", "--calibration", folder / "record.json",
            "--samples", "8", "--target", target, *OPTIONS, "--cache", cache, *extra,
            "-o", tmp_path / "plan.toml",
        )  # fmt: skip

    return call


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Make estimates those of a made-up machine."""

    def use(call_us: float, byte_us: float) -> None:
        made_up = MadeUp(call_us, byte_us)
        monkeypatch.setattr(estimators, "estimator_of", lambda *_: made_up)

    return use


def test_the_least_noise_within_a_latency(plan: Run, machine: Callable[..., None]) -> None:
    machine(1.0, 0.01)  # narrower is faster
    noises = []
    for share in (1.0, 0.9, 0.8):
        done = plan("--budget", f"latency={share}")
        assert done.status == 0, done.error
        uniform, predicted = done.json["uniform"], done.json["predicted"]
        assert predicted["us"] <= share * uniform["us"] * (1 + 1e-9)
        assert done.json["measured"]["us"] == pytest.approx(predicted["us"], rel=0.02)
        assert done.json["latency"]["slower_layers"] == []
        noises.append(predicted["added_noise"])
        assert sum(row["us"] for row in done.json["layers"]) < predicted["us"]
    assert noises == sorted(noises)
    assert noises[0] == 0
    assert noises[-1] > 0
    us = 0.9 * uniform["us"]
    in_us = plan("--budget", f"latency={us}")
    assert in_us.json["predicted"]["added_noise"] == noises[1]
    assert f"{in_us.json['predicted']['us']:.4g} us" in in_us.out
    assert "times are estimated: made-up times" in in_us.out
    assert "layers that take longer than with 8 bits: none" in in_us.out


def test_a_latency_of_one_is_that_of_8_bits(plan: Run, machine: Callable[..., None]) -> None:
    machine(0.1, 0.0)  # sums of tenths depend on their order
    done = plan("--budget", "latency=1")
    assert done.status == 0, done.error
    assert done.json["predicted"]["us"] == pytest.approx(done.json["uniform"]["us"])


def test_the_least_latency_within_a_drop(plan: Run, machine: Callable[..., None]) -> None:
    machine(1.0, 0.01)
    times = []
    for drop in ("0.5", "10", "30"):
        done = plan("--budget", f"drop={drop}", "--least", "latency")
        assert done.status == 0, done.error
        uniform, predicted = done.json["uniform"], done.json["predicted"]
        assert uniform["sqnr_db"] - predicted["sqnr_db"] <= float(drop) + 1e-6
        times.append(predicted["us"])
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0] <= uniform["us"]


def test_a_latency_that_cannot_be_met(plan: Run, machine: Callable[..., None]) -> None:
    machine(10.0, 0.001)
    done = plan("--budget", "latency=0.5")
    assert done.status == 2
    assert "us cannot be met" in done.error
    assert "the fastest options take " in done.error
    assert "plan --budget drop=10 --least latency" in done.error


def test_slower_layers_only_where_the_budget_needs_them(
    plan: Run, machine: Callable[..., None]
) -> None:
    machine(50.0, -0.005)  # narrower is slower
    free = plan("--budget", "drop=30", "--least", "latency")
    assert {row["option"] for row in free.json["layers"]} <= {"w8a8", "w8a8:correction=static"}
    assert free.json["latency"]["slower_layers"] == []
    never = plan("--budget", "size=0.75", "--never-slower")
    assert never.status == 2
    assert "cannot be met" in never.error
    needed = plan("--budget", "size=0.75")
    assert needed.status == 0, needed.error
    assert "no plan is within the budget unless some layers take longer" in needed.error
    slower = needed.json["latency"]["slower_layers"]
    assert slower
    assert set(slower) <= {row["name"] for row in needed.json["layers"] if row["option"] != "w8a8"}
    assert f"layers that take longer than with 8 bits: {len(slower)}" in needed.out
    allowed = plan("--budget", "size=0.75", "--allow-slower")
    assert allowed.json["layers"] == needed.json["layers"]
    assert "unless some layers take longer" not in allowed.error


def test_differences_within_the_noise_are_none(plan: Run, machine: Callable[..., None]) -> None:
    machine(100.0, 0.0005)  # 4 bits save about 1 % of a layer
    done = plan("--budget", "drop=30", "--least", "latency")
    assert {row["option"] for row in done.json["layers"]} == {"w8a8"}


def test_a_bound_of_peak_figures_says_so(plan: Run) -> None:
    """Nobody measured the target; options that seem slower are offered, too."""
    done = plan("--budget", "drop=30", "--least", "latency", target="arm-a72")
    assert done.status == 0, done.error
    assert "nothing measured" in done.json["latency"]["source"]
    assert (
        "times are estimated: roofline of the profile's peak figures, nothing measured" in done.out
    )
    assert done.json["predicted"]["us"] < done.json["uniform"]["us"]


def test_planning_for_a_target_without_figures(plan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "estimator_of", lambda *_: None)
    for budget in (("latency=0.9",), ("drop=1", "--least", "latency")):
        done = plan("--budget", *budget)
        assert done.status == 2
        assert "nothing is known of how long kernels of x86-64 take" in done.error
        assert "tvm-probq measure" in done.error
    done = plan("--budget", "size=0.8")
    assert done.json["latency"] is None
    assert done.json["predicted"]["us"] is None
    assert "estimated" not in done.out


def test_kernels_of_another_target(plan: Run, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    MeasuredKernels("x86-avx2", "a machine").save(path)
    done = plan("--budget", "latency=0.9", "--kernels", path)
    assert done.status == 2
    assert "the measured kernels are of another target" in done.error
    assert "they are of x86-avx2, the plan is for x86-64" in done.error


def test_kernels_that_cannot_be_read(plan: Run, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    missing = plan("--budget", "latency=0.9", "--kernels", path)
    assert missing.status == 2
    assert "make one with `tvm-probq measure`" in missing.error
    path.write_text("{}")
    damaged = plan("--budget", "latency=0.9", "--kernels", path)
    assert damaged.status == 2
    assert "is damaged" in damaged.error


def test_too_few_kernels_to_tell_others_by(plan: Run, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    MeasuredKernels(profiles.load_profile("x86-64").name, "a machine").save(path)
    done = plan("--budget", "latency=0.9", "--kernels", path)
    assert done.status == 2
    assert "0 measured kernels are too few to tell the time of others" in done.error
    assert "into the same file with `tvm-probq measure`" in done.error


def test_slower_and_never_slower_exclude_each_other(plan: Run) -> None:
    with pytest.raises(SystemExit):
        plan("--budget", "size=0.8", "--allow-slower", "--never-slower")
