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
    with_measured_times,
)
from tvm_probq.planning.sizes import NetworkSizes
from tvm_probq.planning.study import RUINED, Sensitivity

REFERENCE = Sensitivity(1e-3, 1e-4, 1.0, 0.0, 0.0)


def losing(noise: float) -> Sensitivity:
    return replace(REFERENCE, added_noise=noise, added_kl=noise / 10)


@pytest.fixture
def found() -> Prices:
    networks = {
        "w8a8": NetworkSizes({"a": 1000, "b": 3000}, 5000, 100, {"a": 10.0, "b": 20.0}, 50.0),
        "w4a8": NetworkSizes({"a": 600, "b": 1600}, 3200, 100, {"a": 8.0, "b": 25.0}, 53.0),
    }
    measured = {"a": {"w4a8": losing(1e-4)}, "b": {"w4a8": losing(2e-3)}}
    return prices(["a", "b"], networks, measured, REFERENCE)


def test_the_least_loss_within_a_size(found: Prices) -> None:
    assert (found.uniform.other_bytes, found.uniform.other_us) == (1000, 20.0)
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


def test_a_wider_option_gains_what_the_network_gains() -> None:
    networks = {
        "w8a8": NetworkSizes({"a": 1000, "b": 3000}, 5000, 100),
        "float": NetworkSizes({"a": 4000, "b": 12000}, 17000, 100),
    }
    better = replace(REFERENCE, noise=4e-4, kl=5e-5, added_noise=5e-4, added_kl=1e-5)
    measured = {"a": {"float": better}, "b": {"float": replace(better, noise=9e-4)}}
    found = prices(["a", "b"], networks, measured, REFERENCE)
    assert found.choices["a"]["float"]["noise"] == pytest.approx(-6e-4)
    assert found.choices["a"]["float"]["kl"] == pytest.approx(-5e-5)
    budget = Budget.parse(["drop=-3"])
    for allocation in (choose(found, budget, "noise"), choose_greedily(found, budget, "noise")):
        assert allocation is not None
        assert allocation.chosen == {"a": "float", "b": "w8a8"}
    assert choose(found, Budget.parse(["size=8000"]), "noise").chosen["a"] == "float"
    with pytest.raises(PlanError, match="noise is at least -0.0007"):
        choose(found, Budget.parse(["drop=-6"]), "noise")


def test_the_fewest_bytes_within_a_drop(found: Prices) -> None:
    assert choose(found, Budget.parse(["drop=0.5"]), "noise").chosen["b"] == "w8a8"
    assert choose(found, Budget.parse(["drop=0.5"]), "noise").chosen["a"] == "w4a8"
    assert set(choose(found, Budget.parse(["drop=6"]), "noise").chosen.values()) == {"w4a8"}


def test_the_least_loss_within_a_latency(found: Prices) -> None:
    allocation = choose(found, Budget.parse(["latency=0.96"]), "noise")
    assert allocation.chosen == {"a": "w4a8", "b": "w8a8"}
    assert found.us(allocation) == 48.0
    assert choose(found, Budget.parse(["latency=50"]), "noise").chosen["a"] == "w8a8"
    with pytest.raises(PlanError, match="fastest options take 48 us, 0.960 of the 50"):
        choose(found, Budget.parse(["latency=47.9"]), "noise")


def test_the_shortest_time_within_a_drop(found: Prices) -> None:
    budget = Budget.parse(["drop=6"], "latency_us")
    assert choose(found, budget, "noise").chosen == {"a": "w4a8", "b": "w8a8"}


def test_what_is_slower_than_the_reference_is_not_offered(found: Prices) -> None:
    strict = with_measured_times(found, 0.03).choices
    assert list(strict["a"]) == ["w8a8", "w4a8"]
    assert list(strict["b"]) == ["w8a8"]
    allowed = with_measured_times(found, 0.03, slower=True).choices
    assert allowed["b"]["w4a8"]["latency_us"] == 25.0


def test_a_difference_within_the_noise_is_none(found: Prices) -> None:
    near = with_measured_times(found, 0.3).choices
    assert near["b"]["w4a8"]["latency_us"] == near["b"]["w8a8"]["latency_us"] == 20.0
    assert near["a"]["w4a8"]["latency_us"] == 10.0


def test_what_gains_nothing_loses_nothing(found: Prices) -> None:
    same = with_measured_times(found, 0.3)
    budget = Budget.parse(["drop=6"], "latency_us")
    assert set(choose(same, budget, "noise").chosen.values()) == {"w8a8"}


def test_nothing_is_said_of_time_where_nothing_is_known() -> None:
    found = prices(["a"], {"w8a8": NetworkSizes({"a": 1000}, 2000, 1)}, {}, REFERENCE)
    assert found.us(choose(found, Budget.parse(["size=1"]), "noise")) is None


def test_both_budgets_may_be_too_tight_together(found: Prices) -> None:
    with pytest.raises(PlanError, match="no choice of options meets the budget"):
        choose(found, Budget.parse(["size=4000", "drop=0.5"]), "noise")


def test_an_option_that_ruins_the_outputs_is_none() -> None:
    networks = {o: NetworkSizes({"a": 1000}, 2000, 1) for o in ("w8a8", "w2a8")}
    found = prices(["a"], networks, {"a": {"w2a8": losing(RUINED)}}, REFERENCE)
    assert list(found.choices["a"]) == ["w8a8"]


def test_every_choice_has_a_reason(found: Prices) -> None:
    base = plan_of("w8a8").override(["c"], mode="float", reason="--skip c")
    allocation = choose(found, Budget.parse(["size=4600"]), "noise")
    plan = plan_of_allocation(base, found, allocation, "noise")
    assert plan.layer("a").weight_bits == 4
    assert plan.layer("a").reason == (
        "w4a8: 600 bytes, 8 us, adds 0.0001 noise; w8a8 takes 400 bytes more"
    )
    assert plan.layer("b").reason == (
        "w8a8: 3000 bytes, 20 us, adds 0 noise; w4a8 saves 1400 bytes and adds 0.002 more, "
        "and takes 25 us"
    )
    assert plan.layer("c") == base.layer("c")
    assert Plan.from_toml(plan.to_toml()) == plan


def test_time_beside_the_layers_is_that_of_the_option() -> None:
    """As on a GPU, where predictions are kernels of their own: here 6 us, which 4 bits save."""
    layers, us = {"a": 10, "b": 20}, {"a": 3.0, "b": 3.0}
    networks = {
        "w8a8": NetworkSizes(layers, 35, 1, us, 22.0),
        "w4a8": NetworkSizes(layers, 35, 1, us, 16.0),
    }
    none = Sensitivity(0.1, None, None, 0.0, None)
    measured = {name: {"w4a8": none} for name in layers}
    found = prices(list(layers), networks, measured, none)
    for layer in layers:
        assert found.choices[layer]["w8a8"]["latency_us"] == 6.0
        assert found.choices[layer]["w4a8"]["latency_us"] == 3.0
    assert (found.uniform.us, found.uniform.other_us) == (22.0, 10.0)
    rounded = {**networks, "w4a8": NetworkSizes(layers, 35, 1, us, 21.999)}
    same = prices(list(layers), rounded, measured, none)
    assert same.choices["a"]["w8a8"]["latency_us"] == 3.0
