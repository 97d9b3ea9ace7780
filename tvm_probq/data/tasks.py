"""What a model is for: how its outputs are read, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data import metrics
from tvm_probq.data.batch import Batch
from tvm_probq.data.cards import Card
from tvm_probq.data.detection import DECODERS, map50, shared_detections
from tvm_probq.errors import DataError, UnsupportedError

Array = NDArray[Any]


class Task(Protocol):
    """How the outputs of a kind of model are judged; lists have one element a sample."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def outputs(self) -> int | None:
        """How many of the first outputs are compared with a reference, None for all."""

    def labels(self, batch: Batch, /) -> list[Any]:
        """Labels of a batch's samples."""

    def read(self, outputs: Sequence[Array], x: Array, /) -> list[Any]:
        """Predictions for the samples `x`."""

    def value(self, predictions: list[Any], labels: list[Any], /) -> float:
        """The metric over all samples."""

    def further(self, predictions: list[Any], labels: list[Any], /) -> dict[str, float]:
        """Other measures over all samples, by name."""

    def agreement(self, reference: list[Any], predictions: list[Any], /) -> float:
        """The share of the reference's decisions that are taken too."""


class Classification:
    """The first output holds the logits of classes."""

    metric = "top1"
    outputs: int | None = 1

    def labels(self, batch: Batch) -> list[Any]:
        """Class indices."""
        return [] if batch.y is None else list(batch.y)

    def read(self, outputs: Sequence[Array], _x: Array) -> list[Any]:
        """Logits."""
        return list(outputs[0])

    def value(self, predictions: list[Any], labels: list[Any]) -> float:
        """Top-1 accuracy."""
        return metrics.top1(np.stack(predictions), np.stack(labels))

    def further(self, _predictions: list[Any], _labels: list[Any]) -> dict[str, float]:
        """None."""
        return {}

    def agreement(self, reference: list[Any], predictions: list[Any]) -> float:
        """Share of samples with the same largest logit."""
        return metrics.agreement(np.stack(reference), np.stack(predictions))


@dataclass(frozen=True)
class Detection:
    """Outputs become boxes by a decoder of `DECODERS`."""

    decoder: str
    metric: str = "map50"
    outputs: int | None = None

    def labels(self, batch: Batch) -> list[Any]:
        """Boxes of each image, shape (k, 5): class, left, top, right, bottom."""
        boxes = batch.y
        if boxes is None:
            return []
        indices = range(batch.start, batch.start + len(batch.x))
        return [boxes[boxes[:, 0] == index, 1:] for index in indices]

    def read(self, outputs: Sequence[Array], x: Array) -> list[Any]:
        """Detections in each image."""
        height, width = x.shape[2:]
        if height != width:
            what = f"the images have {height} rows and {width} columns"
            raise DataError(what, why="detections are decoded for squares", fix="pad them")
        return list(DECODERS[self.decoder](outputs, width))

    def value(self, predictions: list[Any], labels: list[Any]) -> float:
        """Mean average precision at an overlap of 0.5."""
        return map50(predictions, labels)

    def further(self, _predictions: list[Any], _labels: list[Any]) -> dict[str, float]:
        """None."""
        return {}

    def agreement(self, reference: list[Any], predictions: list[Any]) -> float:
        """Share of the reference's detections that are found too."""
        return shared_detections(reference, predictions)


class LanguageModel(Classification):
    """The first output holds the logits of the token behind each one, ``[N, T, tokens]``."""

    metric = "next_token_top1"

    def value(self, predictions: list[Any], labels: list[Any]) -> float:
        """Share of tokens that have the largest logit."""
        return metrics.top1(*_tokens(predictions, labels))

    def further(self, predictions: list[Any], labels: list[Any]) -> dict[str, float]:
        """The perplexity."""
        return {"perplexity": metrics.perplexity(*_tokens(predictions, labels))}

    def agreement(self, reference: list[Any], predictions: list[Any]) -> float:
        """Share of tokens at which both models expect the same."""
        return metrics.agreement(np.concatenate(reference), np.concatenate(predictions))


def _tokens(predictions: list[Any], labels: list[Any]) -> tuple[Array, Array]:
    """Logits and labels of all tokens of all samples."""
    return np.concatenate(predictions), np.concatenate(labels)


def task_of(card: Card) -> Task:
    """Give the task of a card.

    Raises
    ------
    UnsupportedError
        If its decoder is unknown.
    """
    if card.task == "classification":
        return Classification()
    if card.task == "detection":
        if card.postprocess in DECODERS:
            return Detection(card.postprocess)
        raise UnsupportedError(
            f"the postprocess {card.postprocess!r} is unknown",
            where=str(card.path),
            fix=f"use one of {', '.join(DECODERS)}",
        )
    return LanguageModel()
