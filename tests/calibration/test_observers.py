"""Static ranges of known distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.histogram import Histogram
from tvm_probq.calibration.observers import OBSERVERS, static_range
from tvm_probq.errors import PlanError


def histogram(*chunks: Any) -> Histogram:
    """The histogram of arrays."""
    found = Histogram()
    for chunk in chunks:
        found.update(np.sort(np.asarray(chunk, np.float32)))
    return found


@pytest.fixture(scope="module")
def normal() -> Any:
    """Many normal values."""
    return np.random.default_rng(0).normal(size=200_000).astype(np.float32)


def test_minmax_is_exact() -> None:
    assert static_range(histogram([-1.25, 3.5], [7.125]), "minmax", 8) == (-1.25, 7.125)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_zero_is_always_inside(observer: str) -> None:
    low, high = static_range(histogram([2.0, 3.0, 4.0]), observer, 8)
    assert low == 0.0
    assert high > 0.0
    low, high = static_range(histogram([-2.0, -3.0, -4.0]), observer, 8)
    assert low < 0.0
    assert high == 0.0


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("values", [[0.0], [0.0] * 9, [5.0], [-5.0] * 3, [1e-30], [1e30]])
def test_degenerate_tensors(observer: str, values: list[float]) -> None:
    low, high = static_range(histogram(values), observer, 8)
    assert low <= 0.0 <= high
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_never_wider_than_what_was_seen(observer: str, bits: int, normal: Any) -> None:
    h = histogram(normal)
    low, high = static_range(h, observer, bits)
    assert h.low <= low < 0 < high <= h.high


def test_percentile_leaves_outliers_out(normal: Any) -> None:
    low, high = static_range(histogram(normal, [15.0]), "percentile", 8)
    inside = (normal >= low) & (normal <= high)
    assert high < 6
    assert inside.mean() == pytest.approx(0.9999, abs=1e-3)


def test_percentile_of_uniform_values_is_nearly_all() -> None:
    values = np.linspace(-1, 3, 100_001)
    low, high = static_range(histogram(values), "percentile", 8)
    assert low == pytest.approx(-1, abs=0.01)
    assert high == pytest.approx(3, abs=0.01)


def test_mse_of_normal_values_is_the_known_optimum(normal: Any) -> None:
    # Uniform quantizers of least error for a normal source: 16 levels cover 2.51 sigma
    # (Max, "Quantizing for minimum distortion", 1960, table II); ends here are codes, not borders.
    low, high = static_range(histogram(normal), "mse", 4)
    assert -low == pytest.approx(2.5, abs=0.25)
    assert high == pytest.approx(2.5, abs=0.25)


@pytest.mark.parametrize("observer", ["mse", "entropy"])
def test_fewer_bits_clip_more(observer: str, normal: Any) -> None:
    widths = [np.ptp(static_range(histogram(normal), observer, bits)) for bits in (3, 5, 8)]
    assert widths[0] <= widths[1] <= widths[2]


@pytest.mark.parametrize("observer", ["mse", "entropy"])
def test_a_lone_outlier_does_not_set_the_range(observer: str, normal: Any) -> None:
    _, high = static_range(histogram(normal, [60.0]), observer, 8)
    assert high < 50


@pytest.mark.parametrize("observer", ["mse", "entropy"])
def test_uniform_values_are_not_clipped(observer: str) -> None:
    low, high = static_range(histogram(np.linspace(-2, 2, 100_001)), observer, 8)
    assert low == pytest.approx(-2, abs=0.1)
    assert high == pytest.approx(2, abs=0.1)


def test_an_unknown_observer() -> None:
    with pytest.raises(PlanError, match=r"'average'.*entropy, minmax, mse, percentile"):
        static_range(histogram([1.0]), "average", 8)
