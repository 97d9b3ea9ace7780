"""Boxes, hits and average precision against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_probq.data.detection import (
    LEAST_SCORE,
    Detections,
    find_hits,
    map50,
    nanodet,
    overlaps,
    shared_detections,
)
from tvm_probq.errors import DataError

BINS, CLASSES, SIDE = 8, 3, 32


def detections(*rows: tuple[float, int, list[float]]) -> Detections:
    """Detections of scores, classes and boxes."""
    boxes = np.array([box for _, _, box in rows], np.float64).reshape(-1, 4)
    return Detections(boxes, np.array([s for s, _, _ in rows]), np.array([c for _, c, _ in rows]))


def outputs(*found: tuple[int, int, float, list[int]]) -> list[np.ndarray]:
    """NanoDet's outputs for two scales; position of the first, class, score, distances."""
    scores = [np.full((1, cells, CLASSES), LEAST_SCORE, np.float32) for cells in (16, 4)]
    logits = [np.zeros((1, cells, 4 * BINS), np.float32) for cells in (16, 4)]
    for position, label, score, distances in found:
        scores[0][0, position, label] = score
        sure = np.full((4, BINS), -100.0)
        sure[np.arange(4), distances] = 100.0
        logits[0][0, position] = sure.reshape(-1)
    return [scores[0], logits[0], scores[1], logits[1]]


def test_a_box_lies_around_its_position() -> None:
    (image,) = nanodet(outputs((6, 2, 0.9, [1, 1, 0, 2])), SIDE)  # stride 8, row 1, column 2
    assert image.classes.tolist() == [2]
    assert image.scores == pytest.approx([0.9])
    assert image.boxes.tolist() == [[12.0, 4.0, 20.0, 28.0]]


def test_boxes_end_at_the_image() -> None:
    (image,) = nanodet(outputs((0, 0, 0.9, [7, 7, 7, 7])), SIDE)
    assert image.boxes.tolist() == [[0.0, 0.0, 32.0, 32.0]]


def test_an_undecided_distance_is_the_mean() -> None:
    scores, logits, *rest = outputs()
    scores[0, 5, 0] = 0.5
    (image,) = nanodet([scores, logits, *rest], SIDE)
    assert image.boxes.tolist() == [[0.0, 0.0, 32.0, 32.0]]  # 3.5 strides from (12, 12)


def test_duplicates_are_dropped_within_a_class() -> None:
    found = outputs(
        (5, 0, 0.6, [1, 1, 1, 1]), (6, 0, 0.8, [2, 1, 0, 1]), (9, 1, 0.7, [1, 2, 1, 0])
    )  # three times the same box
    (image,) = nanodet(found, SIDE)
    assert image.classes.tolist() == [0, 1]
    assert image.scores == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize(
    "shapes",
    [
        [],
        [(1, 16, 3)],
        [(1, 16, 3), (1, 16, 30)],
        [(1, 15, 3), (1, 15, 32)],
        [(1, 16, 3), (1, 4, 32)],
        [(16, 3), (16, 32)],
    ],
)
def test_other_outputs_are_refused(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(DataError, match="none of NanoDet"):
        nanodet([np.zeros(shape, np.float32) for shape in shapes], SIDE)


def test_overlap() -> None:
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 3, 3], [1, 1, 1, 1]], np.float64)
    assert overlaps(others[0], others) == pytest.approx([1, 1 / 3, 0, 0])


def test_an_object_is_hit_once() -> None:
    objects = np.array([[0, 0, 4, 4], [8, 8, 12, 12]], np.float64)
    boxes = np.array([[0, 0, 4, 3], [0, 0, 4, 4], [8, 8, 10, 10], [8, 8, 12, 12]], np.float64)
    assert find_hits(boxes, objects).tolist() == [True, False, False, True]
    assert find_hits(boxes, objects[:0]).tolist() == [False] * 4


SQUARE, FAR = [0.0, 0.0, 4.0, 4.0], [20.0, 20.0, 24.0, 24.0]
TRUTH = [np.array([[0, *SQUARE], [1, *FAR]]), np.array([[0, *FAR]])]


def test_perfect_and_empty() -> None:
    found = [detections((0.9, 0, SQUARE), (0.8, 1, FAR)), detections((0.3, 0, FAR))]
    assert map50(found, TRUTH) == 1.0
    assert map50([detections(), detections()], TRUTH) == 0.0


def test_precision_is_the_best_from_each_recall_on() -> None:
    # Class 0 by score: wrong, right, right, so 2/3 at every recall; class 1 is not found.
    found = [detections((0.9, 0, FAR), (0.8, 0, SQUARE)), detections((0.7, 0, FAR))]
    assert map50(found, TRUTH) == pytest.approx((2 / 3 + 0) / 2)


def test_half_of_a_class_found() -> None:
    found = [detections((0.9, 0, SQUARE)), detections()]
    assert map50(found, TRUTH) == pytest.approx((51 / 101 + 0) / 2)  # recalls 0 to 0.50


def test_nothing_to_find_is_refused() -> None:
    with pytest.raises(DataError, match="0 objects"):
        map50([detections()], [np.zeros((0, 5))])
    with pytest.raises(DataError, match="1 are decoded"):
        map50([detections()], TRUTH)


def test_shared_detections() -> None:
    reference = [detections((0.9, 0, SQUARE), (0.8, 1, FAR)), detections((0.3, 0, FAR))]
    found = [detections((0.5, 0, SQUARE), (0.4, 0, FAR)), detections((0.9, 0, FAR))]
    assert shared_detections(reference, reference) == 1.0
    assert shared_detections(reference, found) == pytest.approx(2 / 3)
    assert shared_detections([detections()], [detections((0.5, 0, FAR))]) == 1.0
