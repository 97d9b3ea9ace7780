"""Which widths a layer's output may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.errors import PlanError
from tvm_probq.plan.widths import widths, widths_text

ALL = range(2, 9)


@given(st.sampled_from(ALL), st.sets(st.sampled_from(ALL), min_size=1))
def test_the_widest_is_always_allowed(widest: int, chosen: set[int]) -> None:
    listed = ",".join(map(str, sorted(chosen)))
    for bits in ("fixed", "predicted", listed):
        found = widths(bits, widest)
        assert found[-1] == widest
        assert list(found) == sorted(set(found))
    assert widths("fixed", widest) == (widest,)
    assert widths("predicted", widest) == tuple(range(2, widest + 1))
    assert set(widths(listed, widest)) == {b for b in chosen if b < widest} | {widest}


@pytest.mark.parametrize("bits", ["", "4,", "6,4", "4,4", "1,4", "4,9", "4.0", "²", "all", "4;6"])
def test_what_is_none(bits: str) -> None:
    with pytest.raises(PlanError, match=r"use fixed, predicted, or widths of 2 to 8 bits"):
        widths(bits, 8)


def test_in_short() -> None:
    texts = {(8,): "8", (2, 3, 4): "2-4", (4, 6, 8): "4,6,8", (7, 8): "7-8"}
    assert {key: widths_text(key) for key in texts} == texts
