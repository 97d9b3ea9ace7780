"""The distribution of predicted bits, and how it is laid out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tvm_probq.report.layer_noise import LayerNoise
from tvm_probq.report.predicted_bits import mean_bits, picks_to_json, show_picks
from tvm_probq.simulator.numerics import make_qparams


def noise_of(values: int, **widths: int) -> LayerNoise:
    return LayerNoise(values=values, widths=Counter({int(k[1:]): n for k, n in widths.items()}))


def test_widths_are_counted_sample_by_sample() -> None:
    noise, exact = LayerNoise(), np.zeros((3, 4), np.float32)
    ends = np.zeros((3, 1)), np.ones((3, 1))
    noise.add(exact, exact.astype(np.uint8), make_qparams(*ends, [[3.0], [255.0], [3.0]]))
    assert noise.widths == {2: 2, 8: 1}
    assert noise.mean_bits == 4.0
    assert picks_to_json(noise) == {"samples_by_bits": {"2": 2, "8": 1}, "mean_bits": 4.0}
    noise.add(exact, exact, None)  # float32: no codes, no bits
    assert noise.widths.total() == 3
    assert picks_to_json(LayerNoise()) == {"samples_by_bits": {}, "mean_bits": None}


def test_the_mean_of_all_counts_each_stored_value_once() -> None:
    large, small = noise_of(3000, b4=10), noise_of(1000, b8=5, b6=5)
    assert mean_bits([large, small]) == pytest.approx((3 * 4 + 7) / 4)
    assert mean_bits([LayerNoise(), large]) == 4.0
    assert mean_bits([]) is None


def test_the_view_for_people() -> None:
    found = {"clean": noise_of(10, b8=4), "contrast:3": noise_of(10, b7=3, b8=1)}
    measured = {shift: picks_to_json(noise) for shift, noise in found.items()}
    rows: list[dict[str, Any]] = [
        {"name": "conv", "bits": "2-8", "measured": measured},
        {"name": "input", "bits": "", "measured": measured},
    ]
    shown = show_picks(rows, {"clean": 8.0, "contrast:3": 7.25})
    assert "\n".join(shown).splitlines() == [
        "predicted bits  of   inputs      mean  2  3  4  5  6  7     8",
        "--------------  ---  ----------  ----  -  -  -  -  -  ----  -----",
        "conv            2-8  clean       8.00  -  -  -  -  -  -     100 %",
        "conv            2-8  contrast:3  7.25  -  -  -  -  -  75 %  25 %",
        "",
        "all values, clean: 8.00 bits",
        "all values, contrast:3: 7.25 bits",
    ]
