"""Accuracy of a model on labelled samples, alone or paired with a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data import metrics
from tvm_probq.data.sets import Batch
from tvm_probq.errors import DataError

Predict = Callable[[NDArray[Any]], list[NDArray[Any]]]

METRIC = "top1"
# JSON has no infinity. Two float32 outputs that differ at all are far below this.
EQUAL_DB = 300.0


@dataclass(frozen=True)
class Accuracy:
    """What an evaluation measured.

    Attributes
    ----------
    value : float
        Share of samples whose largest logit is the label's.
    count : int
        Number of samples.
    reference_value : float or None
        The same of the reference, where one is given.
    sqnr_db : float or None
        Signal-to-noise of the logits against the reference in dB, `EQUAL_DB` for equal ones.
    agreement : float or None
        Share of samples with the reference's largest logit.
    """

    value: float
    count: int
    reference_value: float | None = None
    sqnr_db: float | None = None
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the form of ``eval --json``; what needs a reference is left out without one."""
        result: dict[str, Any] = {"metric": METRIC, "value": self.value, "count": self.count}
        if self.reference_value is not None:
            result |= {
                "reference_value": self.reference_value,
                "sqnr_db": self.sqnr_db,
                "agreement": self.agreement,
            }
        return result


def evaluate(
    batches: Iterable[Batch], predict: Predict, reference: Predict | None = None
) -> Accuracy:
    """Measure top-1 accuracy, and how close the logits are to those of a reference.

    Parameters
    ----------
    batches : iterable of Batch
        Labelled samples, as the models take them.
    predict, reference : callable
        Give the outputs for samples; the first output is the logits, shape (N, classes).

    Raises
    ------
    DataError
        If there are no samples or no labels, or the outputs do not fit.
    """
    ours, theirs, labels = [], [], []
    for batch in batches:
        if batch.y is None:
            fix = "add the labels as the array 'y' to the evaluation set"
            raise DataError("the evaluation set has no labels", fix=fix)
        labels.append(batch.y)
        ours.append(predict(batch.x)[0])
        if reference is not None:
            theirs.append(reference(batch.x)[0])
    if not labels:
        raise DataError("there are no samples to evaluate", fix="give at least one")
    logits, y = np.concatenate(ours), np.concatenate(labels)
    value = metrics.top1(logits, y)
    if reference is None:
        return Accuracy(value, len(y))
    exact = np.concatenate(theirs)
    return Accuracy(
        value,
        len(y),
        metrics.top1(exact, y),
        finite_db(metrics.sqnr_db(exact, logits)),
        metrics.agreement(exact, logits),
    )


def finite_db(value: float) -> float:
    """Replace an infinite signal-to-noise ratio by plus or minus `EQUAL_DB`."""
    return value if math.isnan(value) else max(-EQUAL_DB, min(EQUAL_DB, value))
