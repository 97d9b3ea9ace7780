"""Layers timed alone, on the emulated device: times mean nothing there, outputs do."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_gpu import device
from gpu import layers, meter
from gpu.layers import LayerTime, layer_times, product_of
from gpu.meter import Meter
from layer_cases import dense, layer

from tvm_probq.kernels.cuda.tiles import BlockTile
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.batch import measure
from tvm_probq.tuning.tasks import tasks_of

SPECS = [layer(8, 8, 16, 32), layer(8, 8, 64, 32, 3, p=1), layer(8, 8, 16, 32), dense(64, 40)]
TARGET = "cuda-sm80"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device().launches >= 0
    monkeypatch.setattr(meter, "ROUNDS", 2)
    monkeypatch.setattr(meter, "WARM_UP", 1)
    monkeypatch.setattr(measure, "CALLS", 2)


def measured(tiles: Any, peer: Any = None) -> list[LayerTime]:
    target = load_profile(TARGET).target()
    return layer_times(tasks_of(SPECS), target, tiles, Meter(target), peer)


def test_each_distinct_layer_has_a_time_and_products_a_peer() -> None:
    asked = []

    def peer(sizes: tuple[int, int, int]) -> float:
        asked.append(sizes)
        return 5.0

    found = measured({}, peer)
    assert [t.task.count for t in found] == [2, 1, 1]
    assert all(t.us > 0 for t in found)
    assert asked == [(64, 16, 32)]
    assert [t.peer_us for t in found] == [5.0, None, None]
    assert [t.instruction for t in found] == ["dp4a", "mma.sync", "dp4a"]


def test_tuned_tiles_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = BlockTile(64, 32, 32, 16).as_tile()
    used: list[Any] = []
    before = layers.layer_kernel

    def noted(spec: Any, target: Any, given: Any) -> Any:
        used.append(given)
        return before(spec, target, given)

    monkeypatch.setattr(layers, "layer_kernel", noted)
    assert measured({SPECS[1]: tile})[1].us > 0
    assert used[1] == tile
    assert used[0] != tile


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "differing", lambda *_: "3 of its values differ")
    with pytest.raises(SystemExit, match="3 of its values differ"):
        measured({})


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        (layer(8, 8, 16, 32), (64, 16, 32)),
        (dense(64, 40, batch=32), (32, 64, 40)),
        (dense(64, 40, batch=16), None),  # too few rows
        (dense(64, 10, batch=32), None),  # no multiple of 8
        (layer(8, 8, 16, 32, 3, p=1), None),  # positions that overlap
        (layer(8, 8, 16, 32, 1, 2), None),  # positions left out
    ],
)
def test_products_of_matrices_are_known(spec: Any, sizes: Any) -> None:
    assert product_of(spec) == sizes
