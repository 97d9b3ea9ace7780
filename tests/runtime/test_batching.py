"""Any number of samples through a fixed batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tvm_probq.errors import DataError
from tvm_probq.runtime.batching import Arrays, by_name, check_exact, check_forms, run_batches

ONE = (("x", (4, 3), "float32"),)
TWO = (*ONE, ("ids", (4,), "int64"))


@given(count=st.integers(1, 20), batch=st.integers(1, 6))
def test_every_sample_comes_back_once_in_order(count: int, batch: int) -> None:
    seen: list[int] = []

    def call(arrays: Arrays) -> list[NDArray[Any]]:
        x = arrays["x"]
        assert x.flags.c_contiguous
        seen.append(len(x))
        return [x * 2, x.sum(axis=1)]

    x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    double, total = run_batches(call, {"x": x}, count, batch)
    assert np.array_equal(double, x * 2)
    assert np.array_equal(total, x.sum(axis=1))
    assert set(seen) == {batch}
    assert len(seen) == -(-count // batch)


def test_the_last_batch_is_filled_with_the_last_sample() -> None:
    batches = []

    def call(arrays: Arrays) -> list[NDArray[Any]]:
        batches.append(arrays["x"].tolist())
        return [arrays["x"]]

    run_batches(call, {"x": np.array([1, 2, 3])}, 3, 2)
    assert batches == [[1, 2], [3, 3]]


def test_a_bare_array_is_the_only_input() -> None:
    x = np.zeros((1, 3), np.float32)
    assert by_name(x, ONE) == {"x": x}
    with pytest.raises(
        DataError, match=r"one array is given for 2 inputs.*'x' \(float32 \[4, 3\]\)"
    ):
        by_name(x, TWO)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x"], r"the input 'ids' is missing, only \['x'\] are given"),
        (["x", "ids", "y"], "the model has no input 'y'.*leave it out"),
    ],
)
def test_wrong_names_are_explained(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_name({name: np.zeros((1, 3), np.float32) for name in names}, TWO)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3)), "'x' is float64, but the model takes float32.*What to do: give float32"),
        (np.zeros((1, 2), "f4"), r"has shape \[1, 2\], but the model takes \[4, 3\], with any"),
        (np.zeros(3, "f4"), r"has shape \[3\]"),
        (np.zeros((), "f4"), r"has shape \[\]"),
        (np.zeros((0, 3), "f4"), "there are no samples"),
    ],
)
def test_wrong_forms_are_explained(array: NDArray[Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"here: .*{message}"):
        check_forms({"x": array}, ONE, where="here")


def test_different_lengths_are_explained() -> None:
    arrays: Arrays = {"x": np.zeros((2, 3), np.float32), "ids": np.zeros(3, np.int64)}
    with pytest.raises(DataError, match=r"different numbers of samples: \{'x': 2, 'ids': 3\}"):
        check_forms(arrays, TWO)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), "f4"), np.zeros((4, 3)), np.zeros((8, 3), "f4")]
)
def test_one_call_takes_exact_shapes(array: NDArray[Any]) -> None:
    check_exact({"x": np.zeros((4, 3), np.float32)}, ONE)
    with pytest.raises(DataError, match=r"here: .*takes float32 of shape \[4, 3\].*one call at a"):
        check_exact({"x": array}, ONE, where="here")
