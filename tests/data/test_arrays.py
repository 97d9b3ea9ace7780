"""Ready model inputs, and the search for values that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tvm_probq.data.arrays import check_finite, load_arrays
from tvm_probq.errors import DataError


def test_arrays_come_by_input_name(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    image, mask = np.ones((3, 1, 2, 2), np.float32), np.zeros((3, 4), np.int64)
    np.savez(path, image=image, mask=mask)
    arrays = load_arrays(path)
    assert set(arrays) == {"image", "mask"}
    assert np.array_equal(arrays["image"], image)
    assert arrays["mask"].dtype == np.int64


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path)
    with pytest.raises(DataError, match="no arrays"):
        load_arrays(path)


def test_different_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, a=np.ones((3, 2)), b=np.ones((4, 2)))
    with pytest.raises(DataError, match=r"'a': 3, 'b': 4"):
        load_arrays(path)


def test_no_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, a=np.ones((0, 2)))
    with pytest.raises(DataError, match="there are no samples"):
        load_arrays(path)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")])
def test_the_first_bad_sample_is_named(tmp_path: Path, value: float, name: str) -> None:
    path = tmp_path / "inputs.npz"
    x = np.zeros((5, 2, 2), np.float32)
    x[3, 1, 0] = value
    np.savez(path, image=x)
    with pytest.raises(DataError, match=rf"array 'image': sample 3 contains {name}"):
        load_arrays(path)


def test_indices_count_from_the_start_of_the_set() -> None:
    x = np.array([0.0, np.nan, np.inf])
    with pytest.raises(DataError, match="sample 11 contains NaN, and 1 more of 3"):
        check_finite(x, first=10)


def test_finite_values_and_integers_pass() -> None:
    check_finite(np.array([1.0, -1e30]))
    check_finite(np.array([[1, 2]], np.int64))
