"""Scalar steps against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_probq.simulator import arithmetic
from tvm_probq.simulator.arithmetic import F32, fma, maximum, minimum

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NORMAL = NUMBERS.filter(lambda v: v == 0 or 2.0**-60 < abs(v) < 2.0**60)


def nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a rational number, ties to even."""
    guess = np.float32(float(exact))  # within one step
    candidates = {float(guess)}
    for direction in (-np.inf, np.inf):
        step = guess
        for _ in range(2):
            step = np.nextafter(step, np.float32(direction), dtype=np.float32)
            candidates.add(float(step))
    finite = [c for c in candidates if np.isfinite(c)]
    distance = {c: abs(Fraction(c) - exact) for c in finite}
    least = min(distance.values())
    best = [np.float32(c) for c in finite if distance[c] == least]
    even = [b for b in best if int(b.view(np.int32)) % 2 == 0]
    return even[0] if len(best) > 1 else best[0]


@given(NORMAL, NORMAL, NORMAL)
@example(1.0 + 2.0**-23, 1.0 + 2.0**-23, 2.0**-60)
@example(1.0 + 2.0**-12, 1.0 + 2.0**-12, 2.0**-59)
@example(1.0 + 2.0**-12, 1.0 + 2.0**-12, -(2.0**-59))
@example(4097.0, 4097.0, 2.0**-40)
@settings(max_examples=500)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma(a, b, c) == nearest(exact)


@given(st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1), st.integers(-90, -30), st.booleans())
@settings(max_examples=500)
def test_fma_next_to_a_tie(a: int, b: int, power: int, negative: bool) -> None:
    """Sums a hair beside the middle of two float32, where rounding twice goes wrong."""
    a, b = np.float32(a), np.float32(b)
    c = np.float32(2.0**power * (-1 if negative else 1))
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert fma(a, b, c) == nearest(exact)


@given(NUMBERS, NUMBERS)
def test_extremes_choose_an_operand(a: float, b: float) -> None:
    assert maximum(a, b) == max(a, b)
    assert minimum(a, b) == min(a, b)


def test_a_nan_gives_the_second_operand() -> None:
    nan = np.float32(np.nan)
    assert maximum(nan, 1.0) == minimum(nan, 1.0) == 1.0
    assert np.isnan([maximum(1.0, nan), minimum(1.0, nan)]).all()


ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 40)),
    elements=st.floats(-8, 8, width=32),
)


@given(ROWS)
def test_sums_have_the_order_that_is_written_down(values: F32) -> None:
    lanes = np.zeros((len(values), 16), np.float32)
    for i in range(values.shape[1]):
        lanes[:, i % 16] += values[:, i]
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    assert np.array_equal(arithmetic.lane_sum(values), lanes[:, 0])


@given(ROWS)
def test_products_are_near_the_exact_ones(values: F32) -> None:
    exact = (values.astype(np.float64) ** 2).sum(1)
    found = arithmetic.lane_dot(values, values)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-30)
    matrix = values.T.copy()
    found = arithmetic.chained_matvec(values, matrix)
    np.testing.assert_allclose(found, values.astype(np.float64) @ matrix, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (2, 3, 4)])
def test_fma_keeps_shapes(shape: tuple[int, ...]) -> None:
    ones: Any = np.ones(shape, np.float32)
    assert fma(ones, 2.0, ones).shape == shape
    assert fma(1.0, 2.0, 3.0).shape == ()
