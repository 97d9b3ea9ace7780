"""Accuracy alone and paired."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_probq.data.batch import Batch
from tvm_probq.errors import DataError
from tvm_probq.report.accuracy import EQUAL_DB, evaluate, finite_db

LOGITS = np.eye(4, dtype=np.float32)
LABELS = np.array([0, 1, 2, 0])


def batches(size: int = 3) -> list[Batch]:
    """Four samples whose input is their own logits; three labels are right."""
    starts = range(0, 4, size)
    return [Batch(i, LOGITS[i : i + size], LABELS[i : i + size]) for i in starts]


def same(x: NDArray[Any]) -> list[NDArray[Any]]:
    return [x, np.zeros(1)]


def test_accuracy_alone() -> None:
    result = evaluate(batches(), same)
    assert result.to_json() == {"metric": "top1", "value": 0.75, "count": 4}


@pytest.mark.parametrize("size", [1, 3, 4])
def test_paired_with_a_reference(size: int) -> None:
    def reference(x: NDArray[Any]) -> list[NDArray[Any]]:
        shifted = x.copy()
        shifted[x[:, 3] == 1] = [2, 0, 0, 0]
        return [shifted]

    result = evaluate(batches(size), same, reference)
    assert result.reference_value == 1.0
    assert result.agreement == 0.75
    assert result.sqnr_db == pytest.approx(10 * math.log10(7 / 5))
    assert set(result.to_json()) == {
        "metric",
        "value",
        "count",
        "reference_value",
        "sqnr_db",
        "agreement",
    }


def test_equal_outputs_have_a_finite_ratio() -> None:
    assert evaluate(batches(), same, same).sqnr_db == EQUAL_DB
    assert finite_db(-math.inf) == -EQUAL_DB
    assert math.isnan(finite_db(math.nan))


def test_missing_labels_and_samples_are_explained() -> None:
    with pytest.raises(DataError, match="no labels"):
        evaluate([Batch(0, LOGITS, None)], same)
    with pytest.raises(DataError, match="no samples"):
        evaluate([], same)
