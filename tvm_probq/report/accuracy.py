"""Accuracy of a model on labelled samples, alone or paired with a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tvm_probq.data import metrics
from tvm_probq.data.batch import Batch
from tvm_probq.data.tasks import Classification, Task
from tvm_probq.errors import DataError

Predict = Callable[[NDArray[Any]], list[NDArray[Any]]]

# JSON has no infinity. Two float32 outputs that differ at all are far below this.
EQUAL_DB = 300.0


@dataclass(frozen=True)
class Accuracy:
    """What an evaluation measured.

    Attributes
    ----------
    metric : str
        What `value` is, such as ``top1``.
    value : float
        The metric over all samples.
    count : int
        Number of samples.
    reference_value : float or None
        The same of the reference, where one is given.
    sqnr_db : float or None
        Signal-to-noise of the outputs against the reference in dB, `EQUAL_DB` for equal ones.
    agreement : float or None
        Share of the reference's decisions that are taken too.
    further : dict
        Other measures, such as ``perplexity``, and those of the reference with the prefix
        ``reference_``.
    """

    metric: str
    value: float
    count: int
    reference_value: float | None = None
    sqnr_db: float | None = None
    agreement: float | None = None
    further: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the form of ``eval --json``; what needs a reference is left out without one."""
        result: dict[str, Any] = {"metric": self.metric, "value": self.value, "count": self.count}
        if self.reference_value is not None:
            result |= {
                "reference_value": self.reference_value,
                "sqnr_db": self.sqnr_db,
                "agreement": self.agreement,
            }
        return result | self.further


def evaluate(
    batches: Iterable[Batch],
    predict: Predict,
    reference: Predict | None = None,
    task: Task | None = None,
) -> Accuracy:
    """Measure a task's metric, and how close the outputs are to those of a reference.

    Parameters
    ----------
    batches : iterable of Batch
        Labelled samples, as the models take them.
    predict, reference : callable
        Give the outputs for samples.
    task : Task, optional
        Reads outputs and judges them; classification by default.

    Raises
    ------
    DataError
        If there are no samples or no labels, or the outputs do not fit.
    """
    judge = Classification() if task is None else task
    ours, theirs, labels, noise = [], [], [], metrics.Noise()
    for batch in batches:
        if batch.y is None:
            fix = "add the labels as the array 'y' to the evaluation set"
            raise DataError("the evaluation set has no labels", fix=fix)
        labels += judge.labels(batch)
        outputs = predict(batch.x)
        ours += judge.read(outputs, batch.x)
        if reference is not None:
            exact = reference(batch.x)
            theirs += judge.read(exact, batch.x)
            for wanted, found in zip(exact[: judge.outputs], outputs[: judge.outputs], strict=True):
                noise.add(wanted, found)
    if not labels:
        raise DataError("there are no samples to evaluate", fix="give at least one")
    value, further = judge.value(ours, labels), judge.further(ours, labels)
    if reference is None:
        return Accuracy(judge.metric, value, len(labels), further=further)
    further |= {f"reference_{k}": v for k, v in judge.further(theirs, labels).items()}
    return Accuracy(
        judge.metric,
        value,
        len(labels),
        judge.value(theirs, labels),
        finite_db(noise.ratio_db()),
        judge.agreement(theirs, ours),
        further,
    )


def finite_db(value: float) -> float:
    """Replace an infinite signal-to-noise ratio by plus or minus `EQUAL_DB`."""
    return value if math.isnan(value) else max(-EQUAL_DB, min(EQUAL_DB, value))
