"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.data.metrics import agreement, perplexity, sqnr_db, top1
from tvm_probq.errors import DataError

LOGITS = np.array([[1, 2, 3], [3, 2, 1], [1, 3, 2], [9, 0, 0]], np.float32)


def test_top1_counts_right_answers() -> None:
    assert top1(LOGITS, np.array([2, 0, 0, 0])) == 0.75


def test_nan_logits_count_as_wrong() -> None:
    logits = LOGITS.copy()
    logits[0, 0] = np.nan
    assert top1(logits, np.array([0, 0, 1, 0])) == 0.75
    assert agreement(logits, logits) == 0.75


def test_agreement_ignores_scale() -> None:
    assert agreement(LOGITS, LOGITS * 7) == 1.0
    assert agreement(LOGITS, np.roll(LOGITS, 1, axis=1)) == 0.0


def test_sqnr_is_over_all_samples_together() -> None:
    reference = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    output = np.array([[3.0, 4.0], [0.5, 0.0]], np.float32)
    assert sqnr_db(reference, output) == pytest.approx(10 * math.log10(25 / 0.25))


def test_sqnr_at_the_ends() -> None:
    zero = np.zeros_like(LOGITS)
    assert sqnr_db(LOGITS, LOGITS) == math.inf
    assert sqnr_db(zero, zero) == math.inf
    assert sqnr_db(zero, LOGITS) == -math.inf
    assert math.isnan(sqnr_db(LOGITS, zero * np.nan))


@given(st.floats(1e-3, 1e3), st.floats(1e-4, 1.0))
def test_sqnr_does_not_depend_on_the_scale(scale: float, noise: float) -> None:
    reference = LOGITS.astype(np.float64)
    output = reference + noise
    expected = sqnr_db(reference, output)
    assert sqnr_db(reference * scale, output * scale) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "labels", [np.array([0, 1]), np.zeros((4, 3), int), np.zeros(4, np.float32)]
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="labels"):
        top1(LOGITS, labels)


def test_outputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        sqnr_db(LOGITS, LOGITS[:2])
    with pytest.raises(DataError, match="cannot be compared"):
        agreement(LOGITS[:0], LOGITS[:0])
    with pytest.raises(DataError, match="shape"):
        top1(LOGITS[None], np.zeros(1, int))


def test_perplexity_of_a_guess_is_the_number_of_classes() -> None:
    logits = np.full((5, 7), -3.0, np.float32)
    assert perplexity(logits, np.arange(5)) == pytest.approx(7.0)


def test_perplexity_by_its_definition() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * 4
    labels = np.random.default_rng(1).integers(0, 6, 40)
    share = np.exp(logits.astype(float))[np.arange(40), labels] / np.exp(logits).sum(1)
    assert perplexity(logits, labels) == pytest.approx(float(np.prod(share) ** (-1 / 40)), rel=1e-5)


@pytest.mark.parametrize("label", [-1, 6])
def test_perplexity_of_what_is_no_class(label: int) -> None:
    with pytest.raises(DataError, match="there are 6 classes"):
        perplexity(np.zeros((2, 6), np.float32), np.array([0, label]))
