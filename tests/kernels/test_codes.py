"""Codes with multipliers of groups: found in the weights, whole, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import dense, layer, multiplied

from tvm_probq.errors import KernelError
from tvm_probq.kernels.checks import check_spec
from tvm_probq.kernels.codes import check_codes, split_codes, stored_form
from tvm_probq.quantization.weights import WEIGHT_GROUPS, round_weights


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(33, 150), st.sampled_from(WEIGHT_GROUPS))
def test_codes_times_multipliers_are_the_weights(seed: int, inputs: int, group: int) -> None:
    weights = np.random.default_rng(seed).integers(-127, 128, (3, 1, 2, inputs)).astype(np.int8)
    codes, multipliers = split_codes(weights, group)
    assert multipliers.shape == (3, -(-inputs // group))
    assert multipliers.min() >= 1
    each = multipliers.repeat(group, 1)[:, None, None, :inputs]
    np.testing.assert_array_equal(codes.astype(int) * each, weights)


@pytest.mark.parametrize("group", WEIGHT_GROUPS)
@pytest.mark.parametrize(("bits", "stored"), [(2, 2), (3, 4), (4, 4), (5, 6), (6, 6)])
def test_the_group_that_weights_were_rounded_with_is_found(
    bits: int, stored: int, group: int
) -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(size=(64, 1, 1, 5))).repeat(group, axis=3)
    weights = (rng.normal(size=(64, 3, 3, 5 * group)) * sizes).astype(np.float32)
    assert stored_form(round_weights(weights, bits, group=group).codes, False) == (stored, group)
    assert stored_form(round_weights(weights, bits).codes, False) == (stored, 0)
    assert stored_form(round_weights(weights, 8).codes, False) == (8, 0)


def test_codes_of_another_group_are_refused() -> None:
    spec = replace(dense(128, 16), weight_bits=4, weight_group=64)
    rng = np.random.default_rng(0)
    size = (16, 1, 1, 128)
    shorter = multiplied(replace(spec, weight_group=32), rng.integers(-7, 8, size), rng)
    check_codes(spec, multiplied(spec, rng.integers(-7, 8, size), rng).astype(np.int8))
    with pytest.raises(KernelError, match="does not fit 4 bits"):
        check_codes(spec, shorter.astype(np.int8))


@pytest.mark.parametrize(
    ("bits", "group", "inputs"), [(8, 64, 128), (4, 48, 128), (4, 64, 64), (4, 128, 100)]
)
def test_groups_that_no_kernel_has(bits: int, group: int, inputs: int) -> None:
    with pytest.raises(KernelError, match=f"multipliers of every {group} of {inputs}"):
        check_spec(layer(4, 4, inputs, 16, weight_bits=bits, weight_group=group))
