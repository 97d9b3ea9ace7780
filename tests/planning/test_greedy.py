"""The greedy choice: by hand, within the limits, and never better than the optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_probq.planning.allocate import Choices, allocate, total
from tvm_probq.planning.greedy import allocate_greedily


def network(layers: int, seed: int) -> Choices:
    """Layers of several sizes with up to five options each, some of them useless."""
    rng = np.random.default_rng(seed)
    return {
        f"l{i}": {
            f"o{j}": {
                "bytes": float(rng.integers(100, 100_000)),
                "noise": 0.0 if j == 0 else rng.choice([1, 1, -1]) * 10 ** rng.uniform(-7, -2),
                "time": float(rng.uniform(1, 100)),
            }
            for j in range(rng.integers(1, 6))
        }
        for i in range(layers)
    }


def least(choices: Choices, name: str) -> float:
    return sum(min(c[name] for c in o.values()) for o in choices.values())


def most(choices: Choices, name: str) -> float:
    return sum(max(c[name] for c in o.values()) for o in choices.values())


def test_the_least_loss_for_each_byte_saved_goes_first() -> None:
    choices = {
        "a": {"w8": {"bytes": 100.0, "noise": 0.0}, "w4": {"bytes": 50.0, "noise": 5.0}},
        "b": {"w8": {"bytes": 100.0, "noise": 0.0}, "w4": {"bytes": 90.0, "noise": 2.0}},
    }
    found = allocate_greedily(choices, "noise", {"bytes": 195.0})
    assert found is not None
    # A step is worth what it saves of the excess: b costs 2 for all of it, a 5.
    assert found.chosen == {"a": "w8", "b": "w4"}
    assert found.totals == {"bytes": 190.0, "noise": 2.0}
    found = allocate_greedily(choices, "noise", {"bytes": 185.0})
    assert found is not None
    assert found.chosen["a"] == "w4"
    assert found.gap == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 25), st.integers(0, 10_000), st.floats(0.05, 1))
def test_never_better_than_the_optimum(layers: int, seed: int, share: float) -> None:
    choices = network(layers, seed)
    low, high = least(choices, "bytes"), most(choices, "bytes")
    limit = low + share * (high - low)
    found = allocate_greedily(choices, "noise", {"bytes": limit})
    assert found is not None  # each step saves bytes, down to the smallest options
    best = allocate(choices, "noise", {"bytes": limit})
    assert found.totals["bytes"] <= limit * (1 + 1e-8)
    noise = best.totals["noise"]
    assert found.totals["noise"] >= noise - 1e-6 * abs(noise) - 1e-10
    for name, value in found.totals.items():
        assert value == pytest.approx(total(choices, found.chosen, name))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 15), st.integers(0, 10_000), st.floats(0.3, 1), st.floats(0.3, 1))
def test_several_limits(layers: int, seed: int, size: float, time: float) -> None:
    choices = network(layers, seed)
    limits = {"bytes": size * most(choices, "bytes"), "time": time * most(choices, "time")}
    found = allocate_greedily(choices, "noise", limits)
    if found is not None:
        assert all(found.totals[name] <= limit * (1 + 1e-8) for name, limit in limits.items())
        best = allocate(choices, "noise", limits)
        noise = best.totals["noise"]
        assert found.totals["noise"] >= noise - 1e-6 * abs(noise) - 1e-10


def test_the_fewest_bytes_within_a_noise() -> None:
    choices = network(20, 3)
    limit = 0.1 * most(choices, "noise")
    found = allocate_greedily(choices, "bytes", {"noise": limit})
    assert found is not None
    assert found.totals["noise"] <= limit * (1 + 1e-8)
    assert found.totals["bytes"] >= allocate(choices, "bytes", {"noise": limit}).totals["bytes"]


def test_what_cannot_be_met_gives_none() -> None:
    choices = network(5, 0)
    assert allocate_greedily(choices, "noise", {"bytes": least(choices, "bytes") - 1}) is None
    assert allocate_greedily({}, "noise", {"bytes": 1.0}) is not None


def test_steps_that_were_not_needed_are_taken_back() -> None:
    choices = {
        "a": {"w8": {"bytes": 10.0, "noise": 0.0}, "w4": {"bytes": 6.0, "noise": 0.1}},
        "b": {"w8": {"bytes": 30.0, "noise": 0.0}, "w4": {"bytes": 16.0, "noise": 2.0}},
    }
    found = allocate_greedily(choices, "noise", {"bytes": 35.0})  # a is cheaper, and too little
    assert found is not None
    assert found.chosen == {"a": "w8", "b": "w4"}
