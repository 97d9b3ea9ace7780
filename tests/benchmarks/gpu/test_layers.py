"""Layers timed alone, on the emulated device: times mean nothing there, outputs do."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_gpu import device
from gpu import layers, peak
from gpu.layers import LayerClock, product_of
from layer_cases import dense, layer

from tvm_probq.kernels.cuda.tiles import BlockTile
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.batch import measure
from tvm_probq.tuning.tasks import tasks_of

SPECS = [layer(8, 8, 16, 32), layer(8, 8, 16, 32, 3, p=1), layer(8, 8, 16, 32), dense(64, 40)]
TARGET = "cuda-sm80"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device().launches >= 0
    monkeypatch.setattr(peak, "TURNS", 2)
    monkeypatch.setattr(peak, "BLOCKS", 1)
    monkeypatch.setattr(layers, "find_nvcc", lambda: "")
    monkeypatch.setattr(layers, "ROUNDS", 2)
    monkeypatch.setattr(layers, "WARM_UP", 1)
    monkeypatch.setattr(measure, "CALLS", 2)


def clock(tiles: Any) -> LayerClock:
    return LayerClock(tasks_of(SPECS), load_profile(TARGET).target(), tiles)


def test_each_distinct_layer_has_a_time_and_products_a_peer() -> None:
    asked = []

    def peer(sizes: tuple[int, int, int]) -> float:
        asked.append(sizes)
        return 5.0

    found = clock({}).times(peer)
    assert [t.task.count for t in found] == [2, 1, 1]
    assert all(t.us > 0 for t in found)
    assert asked == [(64, 16, 32)]
    assert [t.peer_us for t in found] == [5.0, None, None]


def test_the_peak_has_a_time() -> None:
    before = device().launches
    assert clock({}).peak() > 0
    assert device().launches == before + 3 * (2 + 1)  # rounds of two calls and what they wait for


def test_tuned_tiles_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = BlockTile(32, 32, 16, 16).as_tile()
    used: list[Any] = []
    before = layers.layer_kernel

    def noted(spec: Any, target: Any, given: Any) -> Any:
        used.append(given)
        return before(spec, target, given)

    monkeypatch.setattr(layers, "layer_kernel", noted)
    (first, *_) = clock({SPECS[0]: tile}).times()
    assert used[0] == tile
    assert first.instruction == "dp4a"  # 16 channels are too few for tensor cores


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "differing", lambda *_: "3 of its values differ")
    with pytest.raises(SystemExit, match="3 of its values differ"):
        clock({}).times()


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
