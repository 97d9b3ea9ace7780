"""Work counted in kernels, by hand-counted examples."""

from __future__ import annotations

from typing import Any

import pytest
from tvm.script import tirx as T

from tvm_probq.latency.work import work_of


@pytest.fixture
def scaled() -> Any:
    @T.prim_func(s_tir=True)
    def kernel(x: T.Buffer((8, 64), "float32"), y: T.Buffer((8, 64), "float32")) -> None:
        for i in range(8):
            for j in T.unroll(4):
                for k in T.vectorized(16):
                    y[i, j * 16 + k] = x[i, k] * T.float32(2.0)

    return kernel


def test_what_is_the_same_in_unrolled_turns_counts_once(scaled: Any) -> None:
    found = work_of(scaled, 64)
    assert found["stores"] == 8 * 4
    assert found["loads"] == found["floats"] == 8  # x does not vary with j
    assert (found["loops"], found["iterations"]) == (1, 8)


def test_narrower_registers_take_more_operations(scaled: Any) -> None:
    assert work_of(scaled, 16)["stores"] == 8 * 4 * 4


def test_a_branch_on_loops_counts_the_turns_that_take_it() -> None:
    @T.prim_func(s_tir=True)
    def kernel(y: T.Buffer((64,), "float32")) -> None:
        for i in range(16):
            for j in range(4):
                if i * 4 + j < 48:
                    y[i * 4 + j] = T.float32(0.0)

    assert work_of(kernel, 64)["stores"] == pytest.approx(48)


def test_a_scalar_loop_counts_as_vectors() -> None:
    @T.prim_func(s_tir=True)
    def kernel(x: T.Buffer((160,), "float32"), y: T.Buffer((160,), "float32")) -> None:
        for i in range(160):
            y[i] = T.exp(x[i])

    found = work_of(kernel, 64)
    assert found["functions"] == found["loads"] == found["stores"] == 10
