"""Which metric a card's task has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tvm_probq.data.batch import Batch
from tvm_probq.data.cards import load_card
from tvm_probq.data.tasks import Classification, Detection, task_of
from tvm_probq.errors import DataError, UnsupportedError


def card_of(path: Path, task: str, postprocess: str = "") -> Path:
    text = path.read_text().replace('task = "classification"', f'task = "{task}"')
    path.write_text(f'postprocess = "{postprocess}"\n{text}' if postprocess else text)
    return path


def test_tasks_of_cards(card_path: Path) -> None:
    assert isinstance(task_of(load_card(card_path)), Classification)
    detector = card_of(card_path, "detection", "nanodet")
    assert task_of(load_card(detector)) == Detection("nanodet")


@pytest.mark.parametrize(
    ("task", "postprocess", "message"),
    [
        ("detection", "yolo", "the postprocess 'yolo' is unknown.*nanodet"),
        ("detection", "", "the postprocess '' is unknown"),
    ],
)
def test_unknown_decoders_are_explained(
    card_path: Path, task: str, postprocess: str, message: str
) -> None:
    card = load_card(card_of(card_path, task, postprocess))
    with pytest.raises(UnsupportedError, match=f"(?s){message}"):
        task_of(card)


def test_a_language_model_is_judged_token_by_token(card_path: Path) -> None:
    task = task_of(load_card(card_of(card_path, "language-model")))
    labels = task.labels(Batch(0, np.zeros((2, 2), int), np.array([[0, 1], [2, 2]])))
    certain = 50.0 * np.eye(3, dtype=np.float32)[[[0, 1], [2, 0]]]
    predictions = task.read([certain], np.zeros((2, 2), int))
    assert task.value(predictions, labels) == 0.75
    assert task.further(predictions[:1], labels[:1])["perplexity"] == pytest.approx(1.0)
    assert task.agreement(predictions, predictions) == 1.0


def test_boxes_are_given_to_their_images() -> None:
    boxes = np.array([[7, 1, 0, 0, 4, 4], [9, 2, 1, 1, 5, 5]], np.float32)
    labels = Detection("nanodet").labels(Batch(7, np.zeros((3, 3, 8, 8)), boxes))
    assert [len(objects) for objects in labels] == [1, 0, 1]
    assert labels[2].tolist() == [[2, 1, 1, 5, 5]]


def test_only_squares_are_decoded() -> None:
    with pytest.raises(DataError, match="8 rows and 9 columns"):
        Detection("nanodet").read([], np.zeros((1, 3, 8, 9)))
