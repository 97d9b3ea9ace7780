"""A batch of made-up layers, built once, and its results on the emulated device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from emulated_gpu import device

from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.batch import build, measure
from tvm_probq.tuning.batch.build import BatchBuilder
from tvm_probq.tuning.tasks import tasks_of

TARGET = "cuda-sm80"
NAMES = ("pointwise", "residual", "four_bits", "grouped", "depthwise", "dense", "packed")


@dataclass(frozen=True)
class Made:
    """A batch, and where the results of measuring it are."""

    folder: Path
    results: Path
    tasks: Any
    told: tuple[str, ...]

    @property
    def batch(self) -> dict[str, Any]:
        return json.loads((self.folder / measure.BATCH).read_text())

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.results.read_text())


@pytest.fixture(scope="session")
def quick() -> Iterator[pytest.MonkeyPatch]:
    """Without nvcc, and with few rounds: times of the emulated device mean nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "find_nvcc", lambda: "")
        for name in ("ROUNDS", "CONFIRMING_ROUNDS", "WARM_UP_ROUNDS", "CALLS"):
            patch.setattr(measure, name, 2)
        yield patch


@pytest.fixture(scope="session")
def made(quick: Any, tmp_path_factory: pytest.TempPathFactory, all_layers: Any) -> Made:
    """A batch of a few layers with three candidates each, measured."""
    device()
    folder, told = tmp_path_factory.mktemp("batch"), []
    tasks = tasks_of(all_layers[name] for name in NAMES)
    builder = BatchBuilder(TARGET, load_profile(TARGET).target(), 3)
    builder.write(tasks, {}, folder / "batch", told.append)
    assert measure.main(["--folder", str(folder / "batch"), "-o", str(folder / "r.json")]) == 0
    return Made(folder / "batch", folder / "r.json", tasks, tuple(told))
