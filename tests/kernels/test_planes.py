"""Codes of fewer than 8 bits in planes: what the kernels take out again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.kernels.planes import GROUPS, grouped, pack_planes, planes_of

BITS = [6, 4, 2]


def taken_out(planes: Any, bits: int) -> Any:
    """Codes ``[groups * registers, size]`` by the layout that the module's table describes."""
    words = planes.astype(np.int64)
    if bits == 6:
        fourth = sum((words[:, i] & 3) << (4 - 2 * i) for i in range(3))
        parts = [*(words[:, i] >> 2 for i in range(3)), fourth]
    else:
        parts = [words[:, 0] >> bits * i & (1 << bits) - 1 for i in range(GROUPS[bits])]
    values = np.stack(parts, 1)
    signed = values - (values >> bits - 1 << bits)
    return signed.reshape(-1, planes.shape[-1])


@pytest.mark.parametrize("bits", BITS)
def test_planes_take_the_bits_of_their_codes_and_no_more(bits: int) -> None:
    assert 8 * planes_of(bits) == bits * GROUPS[bits]
    codes = np.zeros((3, GROUPS[bits], 16), np.int8)
    assert pack_planes(codes, bits).shape == (3, 1, planes_of(bits), 16)


@given(bits=st.sampled_from(BITS), registers=st.integers(1, 9), seed=st.integers(0, 999))
def test_codes_come_out_as_they_were_with_zeros_behind(
    bits: int, registers: int, seed: int
) -> None:
    half = 1 << bits - 1
    codes = np.random.default_rng(seed).integers(-half, half, (registers, 32)).astype(np.int8)
    codes[0, :2] = -half, half - 1
    packed = pack_planes(codes, bits)
    assert packed.shape == (grouped(registers, bits), planes_of(bits), 32)
    assert packed.dtype == np.uint8
    found = taken_out(packed, bits)
    np.testing.assert_array_equal(found[:registers], codes)
    assert not found[registers:].any()
