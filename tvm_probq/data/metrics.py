"""Accuracy of classifiers, and how close one model's outputs are to another's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.errors import DataError


def top1(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Give the share of samples whose largest logit is the label's.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        A sample with NaN counts as wrong.
    labels : ndarray of int, shape (N,)
        Class indices.

    Raises
    ------
    DataError
        If the shapes do not fit, there are no samples, or labels are no whole numbers.
    """
    _check_labels(logits, labels)
    right = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
    return float(right.mean())


def perplexity(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Give the exponential of the mean negative logarithm of the labels' probabilities.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        Their softmax is the distribution; NaN if any of them is.
    labels : ndarray of int, shape (N,)
        Class indices.

    Raises
    ------
    DataError
        If the shapes do not fit, there are no samples, or labels are no classes.
    """
    _check_labels(logits, labels)
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        what = f"labels are between {labels.min()} and {labels.max()}"
        why = f"there are {logits.shape[1]} classes"
        raise DataError(what, why=why, fix="correct y")
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    logarithms = exact[rows, labels] - np.log(np.exp(exact).sum(axis=1))
    return float(np.exp(-logarithms.mean()))


def agreement(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """Give the share of samples on which both models have the same largest logit.

    Parameters
    ----------
    reference, output : ndarray, shape (N, classes)
        Logits of the same samples; a sample with NaN counts as disagreement.

    Raises
    ------
    DataError
        If the shapes differ or there are no samples.
    """
    _check_same(reference, output)
    _check_logits(reference)
    same = reference.argmax(axis=1) == output.argmax(axis=1)
    same &= ~(np.isnan(reference) | np.isnan(output)).any(axis=1)
    return float(same.mean())


def sqnr_db(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """Give the signal-to-noise ratio over all samples, in dB.

    ``10 log10(sum(reference^2) / sum((reference - output)^2))``, summed in float64.

    Parameters
    ----------
    reference, output : ndarray, same shape
        Outputs of the float and of the quantized model for the same samples.

    Returns
    -------
    float
        Infinity if both are equal, minus infinity if only the reference is all zero, NaN if
        either contains NaN.

    Raises
    ------
    DataError
        If the shapes differ or there are no values.
    """
    noise = Noise()
    noise.add(reference, output)
    return noise.ratio_db()


class Noise:
    """Signal and noise added up sample by sample, so that batches give what the whole set gives."""

    def __init__(self) -> None:
        self._signal: list[float] = []
        self._noise: list[float] = []

    def add(self, reference: NDArray[Any], output: NDArray[Any]) -> None:
        """Add samples, shape (N, ...); see `sqnr_db`."""
        _check_same(reference, output)
        exact = reference.astype(np.float64)
        for sums, values in ((self._signal, exact), (self._noise, exact - output)):
            sums += np.square(values).reshape(len(values), -1).sum(axis=1).tolist()

    def ratio_db(self) -> float:
        """Give the ratio over all samples added."""
        signal, noise = math.fsum(self._signal), math.fsum(self._noise)
        if math.isnan(signal) or math.isnan(noise):
            return math.nan
        if noise == 0.0:
            return math.inf
        if signal == 0.0:
            return -math.inf
        return 10.0 * (math.log10(signal) - math.log10(noise))


def _check_logits(logits: NDArray[Any]) -> None:
    if logits.ndim != 2 or 0 in logits.shape:
        what = f"the logits have shape {logits.shape}"
        why = "a classifier gives one row of class scores a sample"
        raise DataError(what, why=why, fix="check that the model is a classifier and data is given")


def _check_labels(logits: NDArray[Any], labels: NDArray[Any]) -> None:
    _check_logits(logits)
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} labels of shape {labels.shape} for logits of shape {logits.shape}"
        raise DataError(what, why="top-1 needs one class index a sample", fix="correct y")


def _check_same(reference: NDArray[Any], output: NDArray[Any]) -> None:
    if reference.shape != output.shape or reference.size == 0:
        what = f"outputs of shapes {reference.shape} and {output.shape} cannot be compared"
        fix = "compare models with the same outputs on the same samples, at least one"
        raise DataError(what, fix=fix)
