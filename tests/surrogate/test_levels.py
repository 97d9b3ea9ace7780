"""Predicted bits: as few as the tolerance allows, and never fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.plan.plan import LayerPlan
from tvm_probq.simulator.arithmetic import f32
from tvm_probq.simulator.surrogates import Fit, choose_width
from tvm_probq.surrogate.levels import largest_step, levels_of

ENDS = st.floats(-1e6, 1e6, width=32)
STEPS = st.floats(2.0**-20, 1e4, width=32)
BITS = st.sets(st.integers(2, 8), min_size=2).map(lambda found: tuple(sorted(found)))


def picked(low: float, high: float, step: float, bits: tuple[int, ...]) -> Any:
    """Parameters ``[3]`` of an interval under a largest step."""
    fit = Fit(f32([[3.0], [3.0]]), f32([0.0, step]), f32([2.0**b - 1 for b in bits]))
    return choose_width(f32([[low]]), f32([[high]]), fit)[0, :, 0]


@given(ENDS, ENDS, STEPS, BITS)
def test_the_step_is_within_the_tolerance_and_no_narrower_width_is(
    a: float, b: float, step: float, bits: tuple[int, ...]
) -> None:
    scale, _, largest = picked(min(a, b), max(a, b), step, bits)
    levels = [2.0**width - 1 for width in bits]
    assert largest in levels
    assert largest == levels[-1] or scale <= f32(step)
    width = max(a, b, 0.0) - min(a, b, 0.0)
    narrower = [level for level in levels if level < largest]
    assert all(width / level > step * (1 - 1e-6) for level in narrower)


@given(ENDS, ENDS, STEPS, STEPS, BITS)
def test_a_larger_step_never_takes_more_bits(
    a: float, b: float, one: float, other: float, bits: tuple[int, ...]
) -> None:
    ends = min(a, b), max(a, b)
    assert picked(*ends, max(one, other), bits)[2] <= picked(*ends, min(one, other), bits)[2]


@given(ENDS, ENDS, st.floats(0, 1), STEPS, BITS)
def test_a_narrower_interval_never_takes_more_bits(
    a: float, b: float, share: float, step: float, bits: tuple[int, ...]
) -> None:
    low, high = min(a, b), max(a, b)
    inner = picked(low * share, high * share, step, bits)
    assert inner[2] <= picked(low, high, step, bits)[2]


def test_a_constant_of_zero_takes_the_fewest_bits_and_an_endless_range_the_most() -> None:
    assert picked(0.0, 0.0, 0.5, (3, 6, 8))[2] == 7
    assert picked(0.0, 0.0, 0.0, (3, 6, 8))[2] == 7  # of a layer that calibration saw as zero
    with np.errstate(invalid="ignore"):
        assert picked(-np.inf, np.inf, 0.5, (3, 6, 8))[2] == 255


@pytest.mark.parametrize("tolerance_db", [0.0, 6.0, 12.0, 30.0])
def test_the_tolerance_is_the_noise_above_that_of_the_widest(tolerance_db: float) -> None:
    plan = LayerPlan(activation_bits=6, bits="predicted", tolerance_db=tolerance_db)
    step, narrowest = largest_step(5.0, plan), 5.0 / levels_of(plan)[-1]
    rng = np.random.default_rng(0)
    wide, fine = (rng.uniform(-s / 2, s / 2, 100_000) for s in (step, narrowest))
    assert 10 * np.log10((wide**2).mean() / (fine**2).mean()) == pytest.approx(
        tolerance_db, abs=0.1
    )


def test_a_bit_less_costs_6_db_at_the_range_of_calibration() -> None:
    for tolerance_db, bits in ((0.0, 8), (6.0, 8), (6.1, 7), (12.2, 6), (18.4, 5), (50.0, 2)):
        plan = LayerPlan(bits="predicted", tolerance_db=tolerance_db)
        found = picked(-1.0, 4.0, largest_step(5.0, plan), plan.widths)
        assert found[2] == 2**bits - 1, tolerance_db


def test_a_fixed_width_has_one_level_and_no_tolerance() -> None:
    plan = LayerPlan(activation_bits=6)
    assert levels_of(plan) == [63.0]
    assert largest_step(5.0, plan) == 0.0
