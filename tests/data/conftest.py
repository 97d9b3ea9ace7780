"""Small cards and sets made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

CARD = """\
task = "classification"
model = "model.onnx"
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[preprocess]
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.3, 0.4]
layout = "NCHW"

[float_reference]
metric = "top1"
evaluation = 0.9
"""

MakeCard = Callable[[str], Path]


@pytest.fixture
def make_card(tmp_path: Path) -> MakeCard:
    """Write a card of a given text beside the files it names."""
    rng = np.random.default_rng(0)
    (tmp_path / "model.onnx").write_bytes(b"")
    for name, count in (("calibration", 3), ("evaluation", 5)):
        images = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        np.savez_compressed(tmp_path / f"{name}.npz", x=images, y=np.arange(count))

    def make(text: str = CARD) -> Path:
        path = tmp_path / "card.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def card_path(make_card: MakeCard) -> Path:
    """A card without faults."""
    return make_card(CARD)
