"""The cost model: gradient-boosted trees that rank all tiles of a layer after a few are timed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.features import F32, features
from tvm_probq.tuning.space import Space

LEAST_SAMPLES = 24
GROWTH = 1.2  # train anew when there is a fifth more to learn from
TREES = 120
FAILED_RATIO = 4.0
WORST_RATIO = 8.0  # beyond, only the fact counts


class CostModel:
    """Predicts a tile's time relative to the default tile's, from what all layers taught.

    Parameters
    ----------
    seed : int
        Of the trees.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rows: list[F32] = []
        self._logs: list[float] = []
        self._trained_on = 0
        self._booster: Any = None

    @property
    def ready(self) -> bool:
        """Whether predictions mean something."""
        return len(self._logs) >= LEAST_SAMPLES

    def learn(self, space: Space, tiles: Sequence[Tile], ratios: Sequence[float | None]) -> None:
        """Add measured tiles.

        Parameters
        ----------
        space, tiles
            As for `features`.
        ratios : sequence of float or None
            Time over the default tile's time; None for a tile that failed.
        """
        if not tiles:
            return
        self._rows.append(features(space, tiles))
        for ratio in ratios:
            value = FAILED_RATIO if ratio is None else min(ratio, WORST_RATIO)
            self._logs.append(math.log(value))

    def predict(self, space: Space, tiles: Sequence[Tile]) -> F32:
        """Predict the logarithm of each tile's time over the default's; see `ready`."""
        # Imported here: it takes as long as the rest of a command's start.
        import xgboost

        if self._booster is None or len(self._logs) >= GROWTH * self._trained_on:
            data = xgboost.DMatrix(np.concatenate(self._rows), np.array(self._logs))
            self._booster = xgboost.train(
                {"max_depth": 6, "eta": 0.12, "subsample": 0.9, "nthread": 1, "seed": self._seed},
                data,
                TREES,
            )
            self._trained_on = len(self._logs)
        found: F32 = self._booster.predict(xgboost.DMatrix(features(space, tiles)))
        return found
