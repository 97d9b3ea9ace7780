"""The fitted intervals cover what was asked, on data like that of the calibration."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_probq.calibration.fit import choose_fit, coverage_ends, expected_error, fit_interval
from tvm_probq.calibration.losses import CANDIDATES, IntervalLosses, candidate_ends, tails
from tvm_probq.calibration.record import TensorRecord
from tvm_probq.errors import CalibrationError
from tvm_probq.plan.plan import LayerPlan
from tvm_probq.simulator.numerics import Activation

PLAIN, RELU = Activation(), Activation("clip", 0.0, np.inf)
VALUES = 400


def draw(rng: np.random.Generator, kind: str) -> tuple[Any, float, float]:
    """One exchangeable sample: values, and the predicted mean and deviation, which may be off."""
    scale = float(rng.lognormal(0.0, 0.7))
    shift = float(rng.normal()) * scale
    shapes = {
        "normal": lambda: rng.normal(size=VALUES),
        "heavy": lambda: rng.standard_t(4, size=VALUES),
        "skewed": lambda: rng.exponential(size=VALUES) - 1.0,
    }
    values = (shapes[kind]() * scale + shift).astype(np.float32)
    wrong = float(rng.lognormal(0.0, 0.2))
    return values, shift + 0.1 * scale * float(rng.normal()), scale * wrong


def fitted(samples: list[Any], activation: Activation) -> IntervalLosses:
    """Losses of samples."""
    losses = IntervalLosses()
    for y, centre, sigma in samples:
        losses.update(tails(np.sort(after(y, activation), axis=None)), centre, sigma, activation)
    return losses


def after(y: Any, activation: Activation) -> Any:
    """The activation."""
    return np.clip(y, activation.low, activation.high) if activation.kind == "clip" else y


def outside(sample: Any, fit: Any, activation: Activation) -> float:
    """Share of a new sample's values beyond its predicted interval."""
    y, centre, sigma = sample
    y = after(y, activation)
    low, high = centre - fit.alpha * sigma, centre + fit.beta * sigma
    low, high = min(after(low, activation), 0.0), max(after(high, activation), 0.0)
    return float(((y < low) | (y > high)).mean())


@pytest.mark.parametrize("activation", [PLAIN, RELU], ids=["plain", "relu"])
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("asked", [0.95, 0.99, 0.999])
def test_held_out_coverage(asked: float, kind: str, activation: Activation) -> None:
    rng = np.random.default_rng(42)
    shares = []
    for _ in range(12):  # the promise holds on average over calibration sets
        losses = fitted([draw(rng, kind) for _ in range(30)], activation)
        fit = fit_interval("moments", "coverage", losses, 255, asked)
        shares += [outside(draw(rng, kind), fit, activation) for _ in range(60)]
    mean = float(np.mean(shares))
    # Samples of one calibration set share its fit, so that the error is that of the 12 means.
    spread = float(np.std(np.reshape(shares, (12, 60)).mean(1), ddof=1) / np.sqrt(12))
    assert mean - 2.6 * spread <= 1 - asked


def test_more_coverage_is_a_wider_interval() -> None:
    rng = np.random.default_rng(1)
    losses = fitted([draw(rng, "normal") for _ in range(40)], PLAIN)
    fits = [fit_interval("moments", "coverage", losses, 255, c) for c in (0.9, 0.99, 0.9999)]
    for narrow, wide in pairwise(fits):
        assert narrow.alpha <= wide.alpha
        assert narrow.beta <= wide.beta
        assert narrow.width <= wide.width


def test_the_sample_to_come_counts_as_the_worst_one() -> None:
    """Over the samples and a repetition of the worst, the mean share left out is allowed."""
    inside = np.linspace(-1, 1, 1001).astype(np.float32)
    losses = fitted([(inside, 0.0, 1.0)] * 3 + [(inside * 30, 0.0, 1.0)], PLAIN)
    mean = (losses.share[1] + losses.worst[1]) / 5
    for share in (0.2, 0.1, 0.05):
        low, high = coverage_ends(losses, share)
        assert low == high > 0
        assert mean[high] <= share / 2 < mean[high - 1]


def test_mse_takes_the_least_expected_error() -> None:
    rng = np.random.default_rng(3)
    losses = fitted([draw(rng, "normal") for _ in range(20)], PLAIN)
    fit = fit_interval("moments", "mse", losses, 15, 0.999)
    assert fit.error == pytest.approx(expected_error(losses, 15).min())
    coarse = fit_interval("moments", "mse", losses, 3, 0.999)
    assert coarse.width <= fit.width


def test_the_surrogate_of_less_error_is_chosen() -> None:
    rng = np.random.default_rng(4)
    samples = [draw(rng, "normal") for _ in range(20)]
    # Deviations that are wrong by a random factor make the other surrogate the worse one.
    wrong = [(y, m, s * float(rng.lognormal(0, 1.5))) for y, m, s in samples]
    losses = {"moments": fitted(samples, PLAIN), "iid": fitted(wrong, PLAIN)}
    assert choose_fit(TensorRecord(losses=losses), LayerPlan()).kind == "moments"
    losses = {"moments": fitted(wrong, PLAIN), "iid": fitted(samples, PLAIN)}
    assert choose_fit(TensorRecord(losses=losses), LayerPlan()).kind == "iid"
    asked = LayerPlan(surrogate="moments", rule="coverage")
    fit = choose_fit(TensorRecord(losses=losses), asked)
    assert (fit.kind, fit.rule) == ("moments", "coverage")


def test_a_layer_without_losses() -> None:
    with pytest.raises(CalibrationError, match="no surrogate was calibrated"):
        choose_fit(TensorRecord(), LayerPlan())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_losses_agree_with_their_definition(seed: int) -> None:
    y, centre, sigma = draw(np.random.default_rng(seed), "normal")
    low, high = candidate_ends(centre, sigma, PLAIN)
    share, squared = tails(np.sort(y, axis=None)).above(high)
    bin_width = np.ptp(y) / 1024
    for end, s, e in zip(high, share, squared, strict=True):
        exact = float((y > end).mean())
        near = float((np.abs(y - end) <= bin_width).mean())
        assert abs(s - exact) <= near + 1e-9
        excess = float((np.maximum(y.astype(np.float64) - end, 0) ** 2).mean())
        assert e == pytest.approx(
            excess, rel=0.05, abs=float(2 * bin_width * (excess**0.5 + bin_width))
        )
    assert (np.diff(low) <= 0).all()
    assert (np.diff(high) >= 0).all()
    assert len(low) == len(CANDIDATES)


@given(st.floats(2.0**-20, 2.0**20), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_scaling_a_sample_scales_its_losses(factor: float, seed: int) -> None:
    factor = float(2.0 ** np.round(np.log2(factor)))
    y, centre, sigma = draw(np.random.default_rng(seed), "normal")
    one = fitted([(y, centre, sigma)], PLAIN)
    scaled = fitted([(y * np.float32(factor), centre * factor, sigma * factor)], PLAIN)
    np.testing.assert_allclose(scaled.share, one.share)
    np.testing.assert_allclose(scaled.squared, one.squared * factor**2, rtol=1e-5)
    np.testing.assert_allclose(scaled.width, one.width * factor**2, rtol=1e-5)
