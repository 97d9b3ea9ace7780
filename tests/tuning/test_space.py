"""The design space: the default first, and nothing that cannot be built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.kernels.layer import layer_kernel, layer_maker
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.tiles import PARALLEL_MACS
from tvm_probq.quantization.accumulator import prove_accumulator
from tvm_probq.tuning.bench import Bench
from tvm_probq.tuning.example import random_arguments
from tvm_probq.tuning.features import features
from tvm_probq.tuning.space import space_of, tiles_of
from tvm_probq.tuning.space_x86 import SCRATCH_LIMIT

BUILT = 4


def test_the_default_is_first_and_no_tile_is_there_twice(spec: LayerSpec, target: Any) -> None:
    tiles = tiles_of(spec, target)
    assert tiles[0] == layer_maker(target).default_tile(spec)
    assert len(set(tiles)) == len(tiles) > 1


def test_tiles_of_the_space_equal_the_simulator(spec: LayerSpec, target: Any) -> None:
    tiles = tiles_of(spec, target)
    drawn = np.random.default_rng(0).permutation(len(tiles) - 1)[:BUILT] + 1
    bench = Bench(spec, target, seed=1)
    for tile in [tiles[0], *(tiles[i] for i in drawn)]:
        bench.build(tile)  # raises if a bit differs, or another gate refuses it


@pytest.mark.slow
def test_the_corners_of_the_space_can_be_built(spec: LayerSpec, target: Any) -> None:
    tiles = tiles_of(spec, target)
    bench = Bench(spec, target, seed=2)
    sizes = ("columns", "blocks", "rows", "column_tiles", "channel_tasks")
    corners = {pick(tiles, key=lambda t: getattr(t, s)) for s in sizes for pick in (min, max)}
    for tile in corners:
        bench.build(tile)


def test_scratch_is_limited(make_layer: Any) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
    for spec in (make_layer(56, 56, 64, 64, 3), make_layer(56, 56, 96, 96, 5, groups=96)):
        space = space_of(spec, target)
        largest = max(space.tiles(), key=space.scratch_bytes)
        assert space.scratch_bytes(largest) <= SCRATCH_LIMIT
        assert layer_kernel(spec, target, largest).scratch_bytes <= 1.1 * SCRATCH_LIMIT


def test_large_layers_stay_parallel(make_layer: Any) -> None:
    small, large = make_layer(7, 7, 16, 32), make_layer(7, 7, 512, 512, 3)
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
    assert small.macs < PARALLEL_MACS < large.macs
    spaces = [space_of(spec, target) for spec in (small, large)]
    fewest, most = (min(map(space.task_count, space.tiles())) for space in spaces)
    assert fewest == 1
    assert most >= 4


def test_features_are_finite_and_tell_tiles_apart(spec: LayerSpec, target: Any) -> None:
    space = space_of(spec, target)
    tiles = space.tiles()
    found = features(space, tiles)
    assert found.shape[0] == len(tiles)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == len(tiles)


@pytest.mark.parametrize("mcpu", ["cascadelake", "alderlake", "haswell", "x86-64"])
@pytest.mark.parametrize("small", [False, True])
def test_channels_of_a_depthwise_layer_are_split_evenly(
    make_layer: Any, mcpu: str, small: bool
) -> None:
    spec = make_layer(28, 28, 96, 96, 5, groups=96, small_weights=small)
    space = space_of(spec, tvm.target.Target({"kind": "llvm", "mcpu": mcpu}))
    tiles = space.tiles()
    assert {tile.channel_tasks for tile in tiles} == {1, 2, 3, 6}
    assert all(space.task_count(t) == 28 // t.rows * t.channel_tasks for t in tiles)


def test_example_weights_keep_to_their_proof(make_layer: Any) -> None:
    for small in (False, True):
        values = random_arguments(make_layer(14, 14, 64, 96, small_weights=small), 0)
        assert prove_accumulator(values["weights"]).pairs_fit == small
