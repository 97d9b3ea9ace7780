"""Budgets as they are written, and every mistake in one."""

from __future__ import annotations

import pytest

from tvm_probq.errors import PlanError
from tvm_probq.planning.budget import Budget, Uniform

UNIFORM = Uniform(1000, 100, 50.0, 10.0)


def test_shares_and_bytes() -> None:
    assert Budget.parse(["size=0.6"]).limits(UNIFORM, 0.1) == {"parameter_bytes": 500.0}
    assert Budget.parse(["size=700"]).limits(UNIFORM, 0.1) == {"parameter_bytes": 600.0}
    assert Budget.parse(["latency=0.5"]).limits(UNIFORM, 0.1) == {"latency_us": 15.0}
    assert Budget.parse(["latency=30"]).limits(UNIFORM, 0.1) == {"latency_us": 20.0}
    assert str(Budget.parse(["drop=0.5", "size=0.6"])) == "size=0.6 drop=0.5"
    assert str(Budget.parse(["size=2121216"])) == "size=2121216"


def test_a_drop_below_zero_asks_for_less_noise() -> None:
    (limit,) = Budget.parse(["drop=-3.0103"]).limits(UNIFORM, 0.25).values()
    assert limit == pytest.approx(-0.125, rel=1e-4)


def test_a_drop_of_three_decibels_doubles_the_noise() -> None:
    (limit,) = Budget.parse(["drop=3.0103"]).limits(UNIFORM, 0.25).values()
    assert limit == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(
    "texts",
    [[], ["size"], ["peak"], ["peak=0"], ["peak=1", "peak=2"],
     ["size="], ["size=0"], ["size=-1"], ["size=nan"], ["size=inf"], ["drop=x"], ["drop=0"],
     ["drop=-inf"], ["latency=0"],     ["size=0.5", "size=0.6"]],
)  # fmt: skip
def test_mistakes(texts: list[str]) -> None:
    with pytest.raises(PlanError, match="size=0.6"):
        Budget.parse(texts)


def test_what_cannot_be_met_says_what_can() -> None:
    choices = {"a": {"w8a8": {"parameter_bytes": 900.0}, "w4a8": {"parameter_bytes": 500.0}}}
    Budget.parse(["size=0.6"]).check(choices, UNIFORM)
    with pytest.raises(PlanError, match="smallest options take 600 bytes, 0.600"):
        Budget.parse(["size=0.59"]).check(choices, UNIFORM)
