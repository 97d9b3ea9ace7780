"""Boxes of a detector's outputs, and their mean average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.errors import DataError

Array = NDArray[Any]

LEAST_SCORE = 0.05
OVERLAP_OF_DUPLICATES = 0.6
MOST_DETECTIONS = 100
OVERLAP_OF_HITS = 0.5
RECALLS = np.linspace(0.0, 1.0, 101)
SIDES = 4


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, the surest first.

    Attributes
    ----------
    boxes : ndarray of float, shape (k, 4)
        Left, top, right and bottom in pixels.
    scores : ndarray of float, shape (k,)
        Descending.
    classes : ndarray of int, shape (k,)
        Class indices.
    """

    boxes: Array
    scores: Array
    classes: Array


def nanodet(outputs: Sequence[Array], side: int) -> list[Detections]:
    """Decode the outputs of NanoDet, by distributions of distances (arXiv 2006.04388).

    Parameters
    ----------
    outputs : sequence of ndarray
        For each scale two: scores after the sigmoid (N, positions, classes), and the logits of the
        distances to four sides (N, positions, 4 * bins), in strides.
    side : int
        Height and width of the images in pixels.

    Returns
    -------
    list of Detections
        One an image: of a class no two overlap by more than `OVERLAP_OF_DUPLICATES`.

    Raises
    ------
    DataError
        If the outputs are no such pairs.
    """
    pairs = list(zip(outputs[::2], outputs[1::2], strict=False))
    fits = len(outputs) == 2 * len(pairs) > 0 and all(_is_pair(s, d) for s, d in pairs)
    if not fits:
        raise DataError(
            f"outputs of shapes {[list(o.shape) for o in outputs]} are none of NanoDet",
            why="it has scores [N, positions, classes] and distances [N, positions, 4 * bins] for "
            "each scale, with a square number of positions",
            fix="correct the card's postprocess, or the model's outputs",
        )
    return [
        _without_duplicates(*_candidates([(s[i], d[i]) for s, d in pairs], side))
        for i in range(len(outputs[0]))
    ]


DECODERS: dict[str, Callable[[Sequence[Array], int], list[Detections]]] = {"nanodet": nanodet}


def _is_pair(scores: Array, distances: Array) -> bool:
    if not (scores.ndim == distances.ndim == 3) or scores.shape[:2] != distances.shape[:2]:
        return False
    positions, numbers = map(int, distances.shape[1:])
    return positions > 0 and math.isqrt(positions) ** 2 == positions and numbers % SIDES == 0


def _candidates(scales: list[tuple[Array, Array]], side: int) -> tuple[Array, Array, Array]:
    """Boxes, scores and classes of all positions with a class that is likely enough."""
    boxes, scores, classes = [], [], []
    for likely, logits in scales:
        at, label = np.nonzero(likely > LEAST_SCORE)
        boxes.append(_boxes(logits, side)[at])
        scores.append(likely[at, label])
        classes.append(label)
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(classes)


def _boxes(logits: Array, side: int) -> Array:
    """Boxes of every position: its centre and the expected distance to each side."""
    cells = math.isqrt(len(logits))
    stride = side / cells
    by_side = logits.reshape(len(logits), SIDES, -1)
    weights = np.exp(by_side - by_side.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    distances = weights @ np.arange(weights.shape[-1]) * stride
    row, column = np.divmod(np.arange(len(logits)), cells)
    centres = (np.stack([column, row], axis=1) + 0.5) * stride
    corners = [centres - distances[:, :2], centres + distances[:, 2:]]
    boxes: Array = np.clip(np.concatenate(corners, axis=1), 0, side)
    return boxes


def _without_duplicates(boxes: Array, scores: Array, classes: Array) -> Detections:
    """Non-maximum suppression within each class."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < MOST_DETECTIONS:
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = overlaps(boxes[best], boxes[order])
        order = order[(overlap < OVERLAP_OF_DUPLICATES) | (classes[order] != classes[best])]
    return Detections(boxes[kept], scores[kept], classes[kept])


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of one box with each of `others`."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(size, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def map50(found: Sequence[Detections], truth: Sequence[Array]) -> float:
    """Give the mean over classes of the average precision at an overlap of 0.5.

    Parameters
    ----------
    found : sequence of Detections
        One an image.
    truth : sequence of ndarray, shape (k, 5)
        Class, left, top, right and bottom of the objects in each image.

    Raises
    ------
    DataError
        If there are no objects to find, or another number of images.
    """
    if len(found) != len(truth) or not sum(map(len, truth)):
        what = f"{len(truth)} images hold {sum(map(len, truth))} objects, {len(found)} are decoded"
        raise DataError(what, fix="give labelled images, as many as outputs")
    classes = np.unique(np.concatenate([objects[:, 0] for objects in truth]))
    return float(np.mean([_average_precision(found, truth, label) for label in classes]))


def _average_precision(found: Sequence[Detections], truth: Sequence[Array], label: Any) -> float:
    """Area under the precision of one class, its largest from each of 101 recalls on."""
    scores, hits, wanted = [], [], 0
    for image, objects in zip(found, truth, strict=True):
        boxes = objects[objects[:, 0] == label, 1:]
        mine = image.classes == label
        wanted += len(boxes)
        scores.append(image.scores[mine])
        hits.append(find_hits(image.boxes[mine], boxes))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.cumsum(np.concatenate(hits)[order])
    if not len(right):
        return 0.0
    precision = right / np.arange(1, len(right) + 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / wanted, RECALLS)
    return float(np.append(best_from, 0.0)[at].mean())


def find_hits(boxes: Array, objects: Array) -> NDArray[np.bool_]:
    """Whether each box, the surest first, is the first to meet the object it overlaps most."""
    hits, free = np.zeros(len(boxes), bool), np.ones(len(objects), bool)
    if not len(objects):
        return hits
    for index, box in enumerate(boxes):
        overlap = np.where(free, overlaps(box, objects), 0.0)
        nearest = overlap.argmax()
        hits[index] = overlap[nearest] >= OVERLAP_OF_HITS
        free[nearest] &= not hits[index]
    return hits


def shared_detections(reference: Sequence[Detections], found: Sequence[Detections]) -> float:
    """Give the share of the reference's detections that are found too, 1 where it has none.

    Parameters
    ----------
    reference, found : sequence of Detections
        One an image, of the same images; a hit is of the same class and overlaps by half.
    """
    hits = total = 0
    for wanted, image in zip(reference, found, strict=True):
        total += len(wanted.classes)
        for label in np.unique(wanted.classes):
            boxes = image.boxes[image.classes == label]
            hits += int(find_hits(boxes, wanted.boxes[wanted.classes == label]).sum())
    return hits / total if total else 1.0
