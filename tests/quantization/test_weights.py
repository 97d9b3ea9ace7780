"""Rounded weights: bounds, symmetry, and channels of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_probq.quantization.weights import (
    CLIPPED_BITS,
    GROUPED_BITS,
    round_weights,
    weight_scales,
)

WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-(2.0**40), 2.0**40, width=32),
)  # fmt: skip


@given(WEIGHTS, st.integers(2, 8))
def test_codes_and_scales(weights: Any, bits: int) -> None:
    rounded = round_weights(weights, bits)
    assert rounded.codes.dtype == np.int8
    assert rounded.codes.shape == weights.shape
    assert rounded.scale.dtype == np.float32
    assert rounded.scale.shape == weights.shape[:1]
    assert np.abs(rounded.codes.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert (rounded.scale > 0).all()
    assert np.isfinite(rounded.real()).all()


@given(WEIGHTS, st.integers(CLIPPED_BITS + 1, 8))
def test_the_error_is_at_most_half_a_step(weights: Any, bits: int) -> None:
    rounded = round_weights(weights, bits)
    error = np.abs(rounded.real().astype(np.float64) - weights)
    step = rounded.scale.reshape(-1, 1, 1, 1).astype(np.float64)
    tiny = np.abs(weights).max((1, 2, 3), keepdims=True) <= 2.0**-100
    assert ((error <= step * 0.5001) | tiny).all()


@given(WEIGHTS, st.integers(2, 8))
def test_the_rounding_is_symmetric(weights: Any, bits: int) -> None:
    plus, minus = round_weights(weights, bits), round_weights(-weights, bits)
    assert np.array_equal(plus.codes, -minus.codes)
    assert np.array_equal(plus.scale, minus.scale)


@given(WEIGHTS, st.integers(2, 8), st.integers(-20, 20))
def test_scaled_weights_have_the_same_codes(weights: Any, bits: int, power: int) -> None:
    weights = np.where(np.abs(weights) < 2.0**-60, 0, weights).astype(np.float32)
    one = round_weights(weights, bits)
    other = round_weights(weights * np.float32(2.0**power), bits)
    assert np.array_equal(one.codes, other.codes)


@given(WEIGHTS, st.integers(2, CLIPPED_BITS))
@example(np.array([[[[6.7108864e07, 5.3591864e07]]]], np.float32), 5)
def test_clipping_never_adds_error(weights: Any, bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    step = np.abs(flat).max(1, keepdims=True) / limit
    step[step <= 2.0**-100] = 1
    plain = ((np.rint(flat / step) * step - flat) ** 2).sum(1)
    clipped = round_weights(weights, bits).real().reshape(flat.shape).astype(np.float64)
    # Scale and product are each rounded to float32: half a unit in the last place, 2^-24, twice.
    float32_error = 2.0**-23 * np.linalg.norm(clipped, axis=1)
    error = np.linalg.norm(clipped - flat, axis=1)
    assert (error <= np.sqrt(plain) * (1 + 1e-9) + float32_error * (1 + 1e-6) + 1e-15).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_channel_of_zeros(bits: int) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 1, 1, 4)).astype(np.float32)
    weights[1] = 0
    rounded = round_weights(weights, bits)
    assert (rounded.codes[1] == 0).all()
    assert rounded.scale[1] == 1


@pytest.mark.parametrize("value", [1e-44, 1e-38, 1e-31])
def test_values_below_what_a_step_can_express(value: float) -> None:
    rounded = round_weights(np.full((1, 1, 1, 2), value, np.float32), 8)
    assert np.isfinite(rounded.real()).all()
    assert rounded.scale[0] > 0


def test_channels_do_not_share_a_scale() -> None:
    weights = np.float32([[1, -1], [100, 50]]).reshape(2, 1, 1, 2)
    rounded = round_weights(weights, 8)
    assert rounded.codes.reshape(2, 2).tolist() == [[127, -127], [127, 64]]


GROUPED = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 2), st.integers(33, 100)),
    elements=st.floats(-(2.0**20), 2.0**20, width=32),
)  # fmt: skip


@settings(deadline=None)
@given(GROUPED, st.sampled_from(GROUPED_BITS))
def test_codes_of_groups_are_multiples_of_few_bits(weights: Any, bits: int) -> None:
    rounded = round_weights(weights, bits, group=32)
    scale, multipliers = weight_scales(weights, bits, "auto", 32)
    times = multipliers[:, None, None].astype(int)
    assert rounded.codes.dtype == np.int8
    assert (rounded.codes % times == 0).all()
    assert (abs(rounded.codes // times) < 1 << bits - 1).all()
    assert (scale == rounded.scale).all()
    for first in range(0, weights.shape[3], 32):
        assert (np.ptp(multipliers[:, first : first + 32], axis=1) == 0).all()


@pytest.mark.parametrize("bits", GROUPED_BITS)
@pytest.mark.parametrize("clip", ["none", "mse"])
def test_smaller_groups_have_less_error(bits: int, clip: str) -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(size=(24, 1, 1, 8))).repeat(32, axis=3)
    weights = (rng.normal(size=(24, 3, 1, 256)) * sizes).astype(np.float32)
    errors = [
        float(((round_weights(weights, bits, clip, group).real() - weights) ** 2).sum())
        for group in (0, 128, 64, 32)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


def test_a_group_of_all_inputs_is_none() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 32)).astype(np.float32)
    plain, grouped = round_weights(weights, 4), round_weights(weights, 4, group=32)
    assert (plain.codes == grouped.codes).all()
    assert (plain.scale == grouped.scale).all()


def test_groups_of_zeros() -> None:
    weights = np.zeros((2, 1, 1, 64), np.float32)
    weights[0, ..., 40] = 0.5
    rounded = round_weights(weights, 4, group=32)
    assert rounded.real()[0, 0, 0, 40] == pytest.approx(0.5, rel=0.05)
    assert np.count_nonzero(rounded.codes) == 1
    assert rounded.scale[1] == 1
