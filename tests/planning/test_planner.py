"""Plans from prices: reasons, text, budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tvm_probq.errors import PlanError
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.planning.budget import Budget
from tvm_probq.planning.planner import (
    Prices,
    choose,
    choose_greedily,
    plan_of_allocation,
    prices,
)
from tvm_probq.planning.study import RUINED, Sensitivity

REFERENCE = Sensitivity(1e-3, 1e-4, 1.0, 0.0, 0.0)


def losing(noise: float) -> Sensitivity:
    return replace(REFERENCE, added_noise=noise, added_kl=noise / 10)


@pytest.fixture
def found() -> Prices:
    sizes = {"a": {"w8a8": 1000, "w4a8": 600}, "b": {"w8a8": 3000, "w4a8": 1600}}
    measured = {"a": {"w4a8": losing(1e-4)}, "b": {"w4a8": losing(2e-3)}}
    return prices(sizes, 5000, measured, REFERENCE)


def test_the_least_loss_within_a_size(found: Prices) -> None:
    assert found.other_bytes == 1000
    allocation = choose(found, Budget.parse(["size=4600"]), "noise")
    assert allocation.chosen == {"a": "w4a8", "b": "w8a8"}
    assert found.size_bytes(allocation) == 4600
    assert choose(found, Budget.parse(["size=4599"]), "noise").chosen["b"] == "w4a8"
    assert choose(found, Budget.parse(["size=4600"]), "kl", margin=1).chosen["b"] == "w4a8"


def test_a_greedy_choice_has_the_same_budget(found: Prices) -> None:
    for texts in (["size=4600"], ["size=4599"], ["drop=0.5"], ["size=4600", "drop=0.5"]):
        budget = Budget.parse(texts)
        assert choose_greedily(found, budget, "noise") == replace(
            choose(found, budget, "noise"), gap=1.0
        )
    assert choose_greedily(found, Budget.parse(["size=4000", "drop=0.5"]), "noise") is None


def test_the_fewest_bytes_within_a_drop(found: Prices) -> None:
    assert choose(found, Budget.parse(["drop=0.5"]), "noise").chosen["b"] == "w8a8"
    assert choose(found, Budget.parse(["drop=0.5"]), "noise").chosen["a"] == "w4a8"
    assert set(choose(found, Budget.parse(["drop=6"]), "noise").chosen.values()) == {"w4a8"}


def test_both_budgets_may_be_too_tight_together(found: Prices) -> None:
    with pytest.raises(PlanError, match="no choice of options meets the budget"):
        choose(found, Budget.parse(["size=4000", "drop=0.5"]), "noise")


def test_an_option_that_ruins_the_outputs_is_none() -> None:
    sizes = {"a": {"w8a8": 1000, "w2a8": 600}}
    found = prices(sizes, 2000, {"a": {"w2a8": losing(RUINED)}}, REFERENCE)
    assert list(found.choices["a"]) == ["w8a8"]


def test_every_choice_has_a_reason(found: Prices) -> None:
    base = plan_of("w8a8").override(["c"], mode="float", reason="--skip c")
    allocation = choose(found, Budget.parse(["size=4600"]), "noise")
    plan = plan_of_allocation(base, found, allocation, "noise")
    assert plan.layer("a").weight_bits == 4
    assert plan.layer("a").reason == (
        "w4a8: 600 bytes, adds 0.0001 noise; w8a8 takes 400 bytes more"
    )
    assert plan.layer("b").reason == (
        "w8a8: 3000 bytes, adds 0 noise; w4a8 saves 1400 bytes and adds 0.002 more"
    )
    assert plan.layer("c") == base.layer("c")
    assert Plan.from_toml(plan.to_toml()) == plan
