"""The optimum against trying everything, and against a greedy choice."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_probq.errors import PlanError
from tvm_probq.planning.allocate import Choices, allocate, pareto_front, total
from tvm_probq.planning.greedy import allocate_greedily

COSTS = st.fixed_dictionaries(
    {
        "bytes": st.integers(0, 200).map(float),
        "noise": st.one_of(st.just(0.0), st.floats(-7, -1).map(lambda e: 10.0**e)),
    }
)
LAYER = st.lists(COSTS, min_size=1, max_size=4).map(lambda c: {f"o{i}": x for i, x in enumerate(c)})
NETWORK = st.lists(LAYER, min_size=1, max_size=4).map(
    lambda layers: {f"l{i}": options for i, options in enumerate(layers)}
)


def everything(choices: Choices) -> Iterator[dict[str, str]]:
    for combination in itertools.product(*choices.values()):
        yield dict(zip(choices, combination, strict=True))


def between(size: float) -> float:
    """A limit that no sum of whole bytes is near: the solver has a tolerance."""
    return math.floor(size) + 0.5


def network(layers: int, seed: int = 0) -> Choices:
    """Layers of several sizes, each with options that lose more the fewer bytes they take."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(layers):
        size, noise = rng.integers(100, 100_000), 10 ** rng.uniform(-6, -2)
        found[f"l{i}"] = {
            "w8": {"bytes": float(size), "noise": 0.0},
            "w6": {"bytes": float(size * 3 // 4), "noise": noise / 16},
            "w4": {"bytes": float(size // 2), "noise": noise},
        }
    return found


@settings(max_examples=150, deadline=None)
@given(NETWORK, st.floats(0, 1))
def test_it_is_the_best_of_all(choices: Choices, share: float) -> None:
    limit = between(share * sum(max(c["bytes"] for c in o.values()) for o in choices.values()))
    within = [c for c in everything(choices) if total(choices, c, "bytes") <= limit]
    if not within:
        with pytest.raises(PlanError, match="bytes is at least"):
            allocate(choices, "noise", {"bytes": limit})
        return
    found = allocate(choices, "noise", {"bytes": limit})
    best = min(total(choices, c, "noise") for c in within)
    assert found.totals["bytes"] <= limit * (1 + 1e-8)
    assert found.totals["noise"] == pytest.approx(best, rel=1e-6, abs=1e-10)
    assert found.gap < 1e-6


@settings(max_examples=50, deadline=None)
@given(NETWORK, st.floats(0, 0.2), st.floats(0.3, 1))
def test_several_limits(choices: Choices, noise: float, share: float) -> None:
    limit = between(share * sum(max(c["bytes"] for c in o.values()) for o in choices.values()))
    within = [
        c for c in everything(choices)
        if total(choices, c, "bytes") <= limit and total(choices, c, "noise") <= noise
    ]  # fmt: skip
    if not within:
        with pytest.raises(PlanError):
            allocate(choices, "bytes", {"bytes": limit, "noise": noise})
        return
    found = allocate(choices, "bytes", {"bytes": limit, "noise": noise})
    assert found.totals["bytes"] == min(total(choices, c, "bytes") for c in within)


@pytest.mark.parametrize("share", [0.55, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_choice_is_close_and_never_better(share: float, seed: int) -> None:
    choices = network(30, seed)
    limit = share * total(choices, dict.fromkeys(choices, "w8"), "bytes")
    simple = allocate_greedily(choices, "noise", {"bytes": limit})
    assert simple is not None
    found = allocate(choices, "noise", {"bytes": limit})
    assert found.totals["noise"] <= simple.totals["noise"] * (1 + 1e-9)
    assert found.totals["noise"] >= simple.totals["noise"] / 2
    assert found.totals["bytes"] <= limit


def test_the_front_falls_and_ends_at_the_smallest() -> None:
    choices = network(12)
    front = pareto_front(choices, "noise", "bytes", 8)
    sizes = [one.totals["bytes"] for one in front]
    noises = [one.totals["noise"] for one in front]
    assert len(front) > 4
    assert sizes == sorted(sizes, reverse=True)
    assert noises == sorted(noises)
    assert set(front[-1].chosen.values()) == {"w4"}


def test_solving_is_fast_and_repeats() -> None:
    choices = network(200)
    limit = 0.6 * total(choices, dict.fromkeys(choices, "w8"), "bytes")
    start = time.monotonic()
    found = allocate(choices, "noise", {"bytes": limit})
    assert time.monotonic() - start < 10
    assert allocate(choices, "noise", {"bytes": limit}) == found


def test_a_network_without_layers() -> None:
    assert allocate({}, "noise", {"bytes": 1.0}).chosen == {}
