"""No accumulator that was proven wide enough ever overflows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_probq.errors import UnsupportedError
from tvm_probq.quantization.accumulator import largest_code, prove_accumulator

CODES = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=6), elements=st.integers(-127, 127)
)


def worst_sums(codes: Any) -> Any:
    """Largest and least sums that activations from 0 to 255 can give, by channel."""
    flat = codes.reshape(len(codes), -1).astype(np.int64)
    return np.where(flat > 0, flat, 0).sum(1) * 255, np.where(flat < 0, flat, 0).sum(1) * 255


@given(CODES)
def test_adversarial_inputs_stay_within_the_bound(codes: Any) -> None:
    proof = prove_accumulator(codes)
    high, low = worst_sums(codes)
    assert high.max() <= proof.bound
    assert -low.min() <= proof.bound
    # With the zero-point taken off, at worst 255 times the sum of the weights.
    total = codes.reshape(len(codes), -1).astype(np.int64).sum(1) * 255
    assert max(np.abs(high - total).max(), np.abs(low - total).max()) <= 2 * proof.bound


@given(CODES, st.integers(0, 2**32 - 1))
def test_partial_sums_in_any_order_stay_within_the_bound(codes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = codes.reshape(len(codes), -1).astype(np.int64)
    order = rng.permutation(flat.shape[1])
    products = flat[:, order] * rng.choice([0, 255], size=flat.shape[1])
    assert np.abs(products.cumsum(1)).max() <= prove_accumulator(codes).bound


@given(CODES)
def test_the_width_holds_twice_the_bound_and_no_bit_more(codes: Any) -> None:
    proof = prove_accumulator(codes)
    assert 2 * proof.bound <= 2 ** (proof.bits - 1) - 1
    assert proof.bits == 1 or 2 * proof.bound > 2 ** (proof.bits - 2) - 1
    assert proof.dtype == "int32"
    text = f"int32: {proof.bits} bits needed, |sum| <= {proof.bound}"
    assert str(proof) == text + f", two products <= {proof.pair_bound}" * proof.pairs_fit


@given(CODES)
def test_two_products_of_proven_weights_fit_16_bits(codes: Any) -> None:
    flat = codes.ravel().astype(np.int64)
    pairs = 255 * np.add.outer(flat, flat)
    proof = prove_accumulator(codes)
    assert np.abs(pairs).max() <= proof.pair_bound
    assert proof.pairs_fit == (np.abs(flat).max() <= 64)
    if proof.pairs_fit:
        assert -(2**15) <= pairs.min() <= pairs.max() < 2**15


@pytest.mark.parametrize(("code", "fits"), [(64, True), (-64, True), (65, False), (-65, False)])
def test_the_largest_weight_whose_pairs_fit(code: int, fits: bool) -> None:
    assert prove_accumulator(np.full((1, 2), code, np.int8)).pairs_fit == fits


def test_a_sum_too_long_for_int32() -> None:
    longest = (2**31 - 1) // (2 * 255 * 127)
    prove_accumulator(np.full((1, longest), 127, np.int8))
    with pytest.raises(
        UnsupportedError, match=r"fc1: the layer's sums need 33 bits.*int32"
    ) as caught:
        prove_accumulator(np.full((1, longest + 1), -127, np.int8), "fc1")
    assert caught.value.fix


def test_no_weights() -> None:
    assert prove_accumulator(np.zeros((4, 3), np.int8)).bound == 0


@given(CODES)
def test_the_largest_code_is_proven_and_the_next_one_is_not(codes: Any) -> None:
    largest = largest_code(codes)
    assert prove_accumulator(codes, code_max=largest).bits <= 32
    if codes.any():
        with pytest.raises(UnsupportedError, match="the layer's sums need 33 bits"):
            prove_accumulator(codes, code_max=largest + 1)


@pytest.mark.parametrize("taps", [1, 256, 4608])
def test_sums_at_the_limit_fit_int32(taps: int) -> None:
    codes = np.full((2, taps), 127, np.int8)
    codes[1] = -127
    largest = largest_code(codes)
    sums = codes.astype(np.int64).sum(1) * largest
    assert np.abs(sums - sums[::-1]).max() < 2**31 <= 2 * (largest + 1) * 127 * taps
