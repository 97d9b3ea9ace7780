"""The card of a made-up network on pictures of three channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CARD = """\
task = "classification"
model = "{model}"
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[preprocess]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
layout = "NCHW"
"""


def picture_card(folder: Path, model: Path) -> Path:
    """A card in `folder` with sets of eight random pictures of full contrast, 8 by 8 pixels."""
    rng = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        images = rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", x=images, y=np.zeros(8, np.int64))
    path = folder / "card.toml"
    path.write_text(CARD.format(model=model), encoding="utf-8")
    return path
