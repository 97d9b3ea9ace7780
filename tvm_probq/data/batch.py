"""Consecutive samples of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tvm_probq.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Consecutive samples of a set.

    Attributes
    ----------
    start : int
        Index in the whole set of the first sample.
    x : ndarray, shape (n, ...)
        Inputs, as stored or as the model takes them.
    y : ndarray, shape (n, ...), or None
        Labels, where the set has them; of a detection set its boxes (k, 6), which begin with the
        index of their image in the whole set.
    """

    start: int
    x: NDArray[Any]
    y: NDArray[Any] | None


def batch_sizes(count: int, size: int, limit: int | None) -> list[int]:
    """Sizes of the batches of `count` samples, or of the first `limit`; the last may be shorter.

    Raises
    ------
    DataError
        If `size` or `limit` is not positive.
    """
    _check_positive("batch size", size)
    if limit is not None:
        _check_positive("limit", limit)
        count = min(limit, count)
    return [min(size, count - start) for start in range(0, count, size)]


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise DataError(f"the {name} is {value}", fix="give a whole number of at least 1")
