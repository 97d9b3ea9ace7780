"""Small layers, a machine with made-up times, and databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.target.host import missing_features
from tvm_probq.tuning.database import Database, Entry
from tvm_probq.tuning.measure import Measured

FEATURES = {
    "sapphirerapids": "amx-int8",
    "cascadelake": "avx512vnni",
    "haswell": "avx2",
    "x86-64": "sse2",
}
DEFAULT_US = 100.0


def _layer(height: int, width: int, ic: int, oc: int, k: int = 1, **changes: Any) -> LayerSpec:
    spec = LayerSpec(
        batch=1, height=height, width=width, in_channels=ic, out_channels=oc, kernel=(k, k),
        strides=(1, 1), pads=(k // 2,) * 4, dilation=(1, 1), groups=1, weight_bits=8,
        activation="clip(0.0,inf)", output="codes", correction=True, residual=False, in_ranges=1,
        out_ranges=1,
    )  # fmt: skip
    return replace(spec, **changes)


LAYERS = {
    "pointwise": _layer(14, 14, 32, 96),
    "residual": _layer(7, 7, 64, 40, residual=True),
    "square": _layer(14, 14, 16, 32, 3),
    "stem": _layer(32, 32, 3, 24, 3, strides=(2, 2)),
    "dense": _layer(1, 1, 64, 100, flat=True, output="float32", activation="none"),
    "four_bits": _layer(9, 9, 16, 32, 3, weight_bits=4, activation="hard_swish"),
    "six_bits": _layer(9, 9, 16, 32, 3, weight_bits=6),
    "two_bits": _layer(1, 1, 64, 100, flat=True, weight_bits=2),
    "packed": _layer(9, 9, 16, 32, 1, in_bits=4, out_bits=4, residual=True, residual_bits=4),
    "wide": _layer(9, 9, 16, 32, 3, in_bits=16, out_bits=16),
    "grouped": _layer(8, 8, 32, 32, 3, groups=2),
    "depthwise": _layer(14, 14, 24, 24, 3, groups=24),
    "strided_depthwise": _layer(14, 14, 32, 32, 3, groups=32, strides=(2, 2)),
}


@pytest.fixture
def make_layer() -> Callable[..., LayerSpec]:
    """The function that makes a layer from a few sizes."""
    return _layer


@pytest.fixture(scope="session")
def all_layers() -> dict[str, LayerSpec]:
    """Each kind of layer, by name."""
    return LAYERS


@pytest.fixture(params=LAYERS)
def spec(request: pytest.FixtureRequest) -> LayerSpec:
    """Each kind of layer."""
    return LAYERS[request.param]


@pytest.fixture(params=FEATURES)
def target(request: pytest.FixtureRequest) -> Any:
    """Each instruction set that this machine has."""
    if missing_features([FEATURES[request.param]]):
        pytest.skip(f"this machine has no {FEATURES[request.param]}")
    return tvm.target.Target({"kind": "llvm", "mcpu": request.param})


class MadeUpMachine:
    """Gives each tile the time that a function says; None is a refused kernel.

    `asked` lists what was measured, batch by batch.
    """

    def __init__(self, time_us: Callable[[Tile], float | None]) -> None:
        self.time_us = time_us
        self.asked: list[tuple[LayerSpec, list[Tile]]] = []
        self.broken: set[LayerSpec] = set()

    def measure(
        self, spec: LayerSpec, default: Tile, tiles: Sequence[Tile], rounds: int
    ) -> dict[Tile, Measured]:
        """Look the times up."""
        assert rounds > 0
        if spec in self.broken:
            raise KernelError("the default fails", why="it is broken")
        self.asked.append((spec, list(tiles)))
        found = {default: Measured(DEFAULT_US, 1.0)}
        for tile in tiles:
            time_us = self.time_us(tile)
            if time_us is None:
                found[tile] = Measured(failure="no vpdpbusd in its assembly")
            else:
                ratio = time_us / DEFAULT_US
                found[tile] = Measured(time_us, ratio, float(ratio < 1))
        return found


@pytest.fixture
def made_up_machine() -> Callable[..., MadeUpMachine]:
    """The class of machines with made-up times."""
    return MadeUpMachine


@pytest.fixture
def entry() -> Callable[..., Entry]:
    """The function that makes an entry."""

    def make(tile: Tile | None, tried: int = 3, **changes: Any) -> Entry:
        plain = Entry(
            tile=tile, tuned_us=80.0 if tile else 100.0, default_us=100.0,
            gates=("instruction", "workspace"), machine="a machine", date="2026-01-31", threads=1,
            tried=tried, trials={},
        )  # fmt: skip
        return replace(plain, **changes)

    return make


@pytest.fixture
def database(make_layer: Any, entry: Any) -> Database:
    """Two entries, one of which keeps the default tile."""
    from tvm_probq.tuning.key import layer_key

    tile = Tile(7, 2, 1, 4, 1)
    trials = {tile: 0.8, Tile(3, 2, 1, 4, 1): None, Tile(1, 2, 1, 4, 1): 1.5}
    return Database(
        "x86-vnni",
        {
            layer_key(make_layer(14, 14, 32, 96)): entry(tile, trials=trials),
            layer_key(make_layer(7, 7, 64, 40)): entry(None),
        },
    )
