"""Rounding with error feedback: bounds, and less error in the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_probq.quantization.feedback import (
    DAMPING,
    SCALE_SHARES,
    TAP_CORRELATION,
    TRIED_WEIGHTS,
    InputSpread,
    feedback_weights,
)
from tvm_probq.quantization.weights import RoundedWeights, round_weights, weight_scales

WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-(2.0**40), 2.0**40, width=32),
)  # fmt: skip


def output_error(weights: Any, rounded: Any, spread: InputSpread) -> float:
    """Expected squared error of all outputs."""
    error = (weights - rounded.real()).reshape(len(weights), -1, weights.shape[3])
    covariance = np.diag(spread.rest) + spread.factor @ spread.factor.T
    taps = error.shape[1]
    between = np.full((taps, taps), TAP_CORRELATION) + (1 - TAP_CORRELATION) * np.eye(taps)
    return float(np.einsum("oki,kl,olj,ij->", error, between, error, covariance))


@given(WEIGHTS, st.integers(2, 8))
def test_codes_and_scales(weights: Any, bits: int) -> None:
    rounded = feedback_weights(weights, bits, InputSpread.unknown(weights.shape[3]))
    assert rounded.codes.dtype == np.int8
    assert rounded.codes.shape == weights.shape
    share = rounded.scale / round_weights(weights, bits).scale
    assert np.all((share > SCALE_SHARES[0] - 1e-6) & (share < SCALE_SHARES[1] + 1e-6))
    assert np.abs(rounded.codes.astype(int)).max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_codes_of_groups_are_multiples_and_have_less_error(bits: int) -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(size=(12, 1, 1, 4))).repeat(32, axis=3)[..., :110]
    weights = (rng.normal(size=(12, 3, 1, 110)) * sizes).astype(np.float32)
    inputs = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 110)) + rng.normal(size=(200, 110))
    spread = InputSpread.of(np.cov(inputs.T))
    grouped = feedback_weights(weights, bits, spread, group=32)
    _, multipliers = weight_scales(weights, bits, "auto", 32)
    times = multipliers[:, None, None].astype(int)
    assert (grouped.codes % times == 0).all()
    assert (abs(grouped.codes // times) < 1 << bits - 1).all()
    error = output_error(weights, grouped, spread)
    assert error < 0.8 * output_error(weights, feedback_weights(weights, bits, spread), spread)
    nearest = round_weights(weights, bits, group=32)
    assert error < 0.8 * output_error(weights, nearest, spread)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("shape", [(8, 3, 3, 1), (8, 1, 1, 40), (6, 3, 3, 12)])
def test_outputs_have_less_error(shape: Any, bits: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=shape).astype(np.float32)
    inputs = rng.normal(size=(200, 4)) @ rng.normal(size=(4, shape[3]))
    spread = InputSpread.of(np.cov(inputs.T).reshape(shape[3], shape[3]))
    error = output_error(weights, feedback_weights(weights, bits, spread), spread)
    assert error < 0.8 * output_error(weights, round_weights(weights, bits), spread)


@given(WEIGHTS)
def test_independent_inputs_are_rounded_to_nearest(weights: Any) -> None:
    one_tap = weights[:, :1, :1]
    rounded = feedback_weights(one_tap, 8, InputSpread.unknown(weights.shape[3]))
    steps = one_tap / rounded.scale[:, None, None, None]
    assert np.array_equal(rounded.codes, np.clip(np.rint(steps), -127, 127))


@pytest.mark.parametrize(("bits", "share"), [(4, 0.8), (8, 0.5)])
def test_few_weights_find_a_scale_that_fits_them(bits: int, share: float) -> None:
    weights = np.random.default_rng(2).normal(size=(50, 3, 3, 1)).astype(np.float32)
    spread = InputSpread.unknown(1)
    many = np.concatenate([weights] * (TRIED_WEIGHTS // weights.size + 1))
    error = output_error(weights, feedback_weights(weights, bits, spread), spread)
    one_scale = feedback_weights(many, bits, spread)
    assert np.array_equal(one_scale.scale[:50], round_weights(weights, bits).scale)
    assert error < share * output_error(
        weights, RoundedWeights(one_scale.codes[:50], one_scale.scale[:50]), spread
    )


def test_a_spread_holds_its_covariance() -> None:
    rng = np.random.default_rng(1)
    covariance = np.cov(rng.normal(size=(50, 6)).T)
    spread = InputSpread.of(covariance)
    held = np.diag(spread.rest) + spread.factor @ spread.factor.T
    damping = DAMPING * np.trace(covariance) / 6 * np.eye(6)
    np.testing.assert_allclose(held, covariance + damping, rtol=1e-3, atol=1e-3)
    assert np.allclose(spread.variance, np.diag(held))


def test_inputs_that_never_vary() -> None:
    spread = InputSpread.of(np.zeros((3, 3)))
    assert spread.variance.tolist() == [1, 1, 1]
