"""Tensors in one piece of memory never meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.kernels.arena import ALIGNMENT, Life, in_turn, shared

LIVES = st.lists(
    st.builds(
        lambda size, first, length: Life(size, first, first + length),
        st.integers(0, 5000), st.integers(0, 20), st.integers(0, 6),
    ),
    max_size=24,
)  # fmt: skip


@given(LIVES)
def test_tensors_that_meet_do_not_overlap(lives: list[Life]) -> None:
    layout = shared(lives)
    assert all(at % ALIGNMENT == 0 for at in layout.offsets)
    spans = [
        (at, at + life.size_bytes, life) for at, life in zip(layout.offsets, lives, strict=True)
    ]
    for i, (low, high, life) in enumerate(spans):
        assert high <= layout.size_bytes
        for other_low, other_high, other in spans[:i]:
            assert not life.meets(other) or high <= other_low or other_high <= low


@given(LIVES)
def test_the_arena_is_no_larger_than_without_sharing(lives: list[Life]) -> None:
    assert shared(lives).size_bytes <= in_turn(life.size_bytes for life in lives).size_bytes


def test_a_chain_needs_two_tensors() -> None:
    lives = [Life(640, i, i + 1) for i in range(9)]
    assert shared(lives).size_bytes == 2 * 640


def test_in_turn() -> None:
    layout = in_turn([1, 64, 65, 0])
    assert layout.offsets == (0, 64, 128, 256)
    assert layout.size_bytes == 256
    assert in_turn([]).size_bytes == 0
