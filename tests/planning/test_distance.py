"""Noise, divergence and agreement of outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tvm_probq.planning.distance import Distance, decibels

RNG = np.random.default_rng(0)


def test_equal_outputs_have_no_distance() -> None:
    scores = RNG.normal(size=(3, 5)).astype(np.float32)
    distance = Distance()
    distance.add([scores], [scores])
    assert (distance.share, distance.kl, distance.agreement) == (0.0, 0.0, 1.0)
    assert decibels(distance.share) == math.inf


def test_two_classes_by_hand() -> None:
    distance = Distance()
    distance.add([np.log([[0.75, 0.25]])], [np.log([[0.5, 0.5]]) + [[0.0, 1e-9]]])
    assert distance.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)
    assert distance.agreement == 0.0


def test_probabilities_are_taken_as_they_are() -> None:
    scores, other = (RNG.normal(size=(4, 6)) for _ in range(2))
    of_scores, of_probabilities = Distance(), Distance()
    of_scores.add([scores], [other])
    soft = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (scores, other)]
    of_probabilities.add(soft[:1], soft[1:])
    assert of_scores.kl == pytest.approx(of_probabilities.kl)


def test_batches_add_up() -> None:
    exact, found = RNG.normal(size=(2, 8, 3))
    whole, parts = Distance(), Distance()
    whole.add([exact], [found])
    for i in range(0, 8, 2):
        parts.add([exact[i : i + 2]], [found[i : i + 2]])
    assert parts == whole
    assert whole.share == pytest.approx(((exact - found) ** 2).sum() / (exact**2).sum())


def test_several_outputs_are_no_class_scores_and_indices_no_signal() -> None:
    distance = Distance()
    boxes = RNG.normal(size=(1, 7, 4))
    distance.add([boxes, np.arange(3)], [boxes + 1, np.arange(3) + 9])
    assert distance.kl is None
    assert distance.agreement is None
    assert distance.share == pytest.approx(28 / (boxes**2).sum())
