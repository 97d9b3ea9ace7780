"""``tvm-probq demo``: the whole path on the bundled network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tvm_probq.demo import run as demo
from tvm_probq.demo.digits import load_split

Run = Callable[..., Any]

ROW = {
    "mode": "predicted",
    "scheme": "w8a8",
    "accuracy_clean": 0.99,
    "accuracy_dark": 0.975,
    "accuracy_low_contrast": 0.95,
    "clipped": 0.0012,
    "peak_activation_bytes": 3584,
    "parameter_bytes": 12000,
    "latency_us": 41.7,
}
FLOAT = {**ROW, "mode": "float", "scheme": "", "clipped": None}
TABLE = """\
mode       scheme  top-1 clean  top-1 dark  top-1 low contrast  clipped  peak bytes\
  weights bytes  latency us
---------  ------  -----------  ----------  ------------------  -------  ----------\
  -------------  ----------
float      -       99.0 %       97.5 %      95.0 %              -             3 584\
         12 000  42
predicted  w8a8    99.0 %       97.5 %      95.0 %              0.12 %        3 584\
         12 000  42"""


def test_the_table_for_people() -> None:
    text = demo.show_demo({"count": 600, "target": "x86-vnni", "rows": [FLOAT, ROW]})
    assert text.startswith("handwritten digits, 600 images, target x86-vnni\n\n")
    assert TABLE in text
    assert demo.LEGEND in text


def test_shifts() -> None:
    images = np.array([0.0, 0.5, 1.0], np.float32)
    assert np.array_equal(demo.shifted(images, "clean"), images)
    assert np.allclose(demo.shifted(images, "dark"), [0, 0.2, 0.4])
    assert np.allclose(demo.shifted(images, "low_contrast"), [0.1, 0.4, 0.7])
    assert demo.shifted(images, "dark").dtype == np.float32


@pytest.mark.slow
def test_the_demo_compares_every_mode(run: Run) -> None:
    start = time.monotonic()
    done = run("demo")
    assert done.status == 0, done.error
    assert time.monotonic() - start < 60
    assert done.json["count"] == len(load_split()[1])
    rows = {(row["mode"], row["scheme"]): row for row in done.json["rows"]}
    assert {mode for mode, _ in rows} == {"float", "static", "dynamic", "predicted"}
    float_accuracy = rows["float", ""]["accuracy_clean"]
    for (mode, scheme), row in rows.items():
        assert row["latency_us"] > 0
        assert (row["clipped"] is None) == (mode == "float")
        if scheme == "w8a8":
            assert row["accuracy_clean"] >= float_accuracy - 0.01
    memory = {key: row["peak_activation_bytes"] for key, row in rows.items()}
    assert memory["predicted", "w8a8"] < memory["dynamic", "w8a8"]
