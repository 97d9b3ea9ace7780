"""The design space of ARM: what fits the registers and divides the layer, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import tvm
from emulation import EmulatedBoard, arm_target
from hypothesis import given, settings
from hypothesis import strategies as st
from random_layers import layers

from tvm_probq.kernels.arm.tiles import PARALLEL_MACS, check_tile, fits
from tvm_probq.kernels.arm.unit import arm_unit
from tvm_probq.kernels.arm.view import channel_blocks, view_of
from tvm_probq.kernels.layer import layer_kernel, layer_maker
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.tuning.candidate import Candidates, differing
from tvm_probq.tuning.example import random_arguments
from tvm_probq.tuning.features import features
from tvm_probq.tuning.space import space_of, tiles_of
from tvm_probq.tuning.space_arm import LEAST_SUMS, MOST_CHANNEL_TASKS, SCRATCH_LIMIT

MCPUS = ("cortex-a72", "cortex-a76", "neoverse-v1")
INSTRUCTIONS = {"cortex-a72": "smull", "cortex-a76": "sdot", "neoverse-v1": "smmla"}
BUILT = 1


@settings(max_examples=60, deadline=None)
@given(spec=layers(), mcpu=st.sampled_from(MCPUS))
def test_every_tile_can_be_built(spec: LayerSpec, mcpu: str) -> None:
    target = arm_target(mcpu)
    unit = arm_unit(spec, target)
    view = view_of(spec, unit)
    tiles = tiles_of(spec, target)
    assert tiles[0] == layer_maker(target).default_tile(spec)
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        check_tile(spec, view, tile)
        assert (tile.tile_rows, tile.trace) == (1, "")
        assert tile.channel_tasks <= MOST_CHANNEL_TASKS
        if spec.depthwise:
            assert tile.blocks == 1
            continue
        assert fits(view, unit, tile.columns, tile.blocks)
        if tile.channel_tasks > 1:
            assert channel_blocks(spec.group_outputs, tile.blocks)[2] is None


@settings(max_examples=40, deadline=None)
@given(spec=layers(), mcpu=st.sampled_from(MCPUS))
def test_features_are_finite_and_tell_tiles_apart(spec: LayerSpec, mcpu: str) -> None:
    space = space_of(spec, arm_target(mcpu))
    tiles = space.tiles()
    found = features(space, tiles)
    assert found.shape[0] == len(tiles)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == len(tiles)


def test_features_are_as_many_as_on_x86(spec: LayerSpec) -> None:
    x86 = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
    spaces = [space_of(spec, target) for target in (x86, arm_target("cortex-a76"))]
    widths = [features(space, space.tiles()[:1]).shape[1] for space in spaces]
    assert widths[0] == widths[1]


@pytest.mark.parametrize("mcpu", MCPUS)
def test_register_tiles_are_all_that_fit(make_layer: Any, mcpu: str) -> None:
    spec, target = make_layer(14, 14, 32, 96), arm_target(mcpu)
    unit = arm_unit(spec, target)
    assert unit.instruction == INSTRUCTIONS[mcpu]
    view = view_of(spec, unit)
    wanted = {
        (columns, quads)
        for quads in range(1, 25)
        for columns in range(1, view.columns + 1)
        if fits(view, unit, columns, quads) and unit.registers(columns, quads) >= LEAST_SUMS
    }
    found = {(tile.columns, tile.blocks) for tile in tiles_of(spec, target)}
    assert found == wanted
    assert len(found) > 4


@pytest.mark.parametrize("mcpu", MCPUS)
def test_copied_rows_are_not_copied_twice(make_layer: Any, mcpu: str) -> None:
    spec = make_layer(14, 14, 16, 32, 3)
    tiles = tiles_of(spec, arm_target(mcpu))
    assert all(tile.column_tiles == max(1, 14 // tile.columns) for tile in tiles)
    assert set(Counter(tile.rows for tile in tiles)) == {1, 2, 7, 14}


@pytest.mark.parametrize("mcpu", MCPUS)
def test_large_layers_stay_parallel(make_layer: Any, mcpu: str) -> None:
    target = arm_target(mcpu)
    small, large = make_layer(7, 7, 16, 32), make_layer(7, 7, 512, 512, 3)
    wide = make_layer(56, 56, 96, 96, 3, groups=96)
    assert small.macs < PARALLEL_MACS < large.macs
    fewest = [min(map(s.task_count, s.tiles())) for s in (space_of(x, target) for x in
                                                          (small, large, wide))]  # fmt: skip
    assert fewest[0] == 1
    assert min(fewest[1:]) >= 4


def test_scratch_is_limited(make_layer: Any) -> None:
    target = arm_target("cortex-a76")
    for spec in (make_layer(56, 56, 64, 64, 3), make_layer(56, 56, 96, 96, 5, groups=96)):
        space = space_of(spec, target)
        largest = max(space.tiles(), key=space.scratch_bytes)
        assert space.scratch_bytes(largest) <= SCRATCH_LIMIT
        assert layer_kernel(spec, target, largest).scratch_bytes <= 1.1 * SCRATCH_LIMIT


@pytest.mark.parametrize("mcpu", MCPUS)
def test_tiles_of_the_space_equal_the_simulator(
    emulated_board: EmulatedBoard, spec: LayerSpec, mcpu: str
) -> None:
    target = arm_target(mcpu)
    tiles = tiles_of(spec, target)
    drawn = np.random.default_rng(0).permutation(len(tiles) - 1)[:BUILT] + 1
    candidates = Candidates(spec, target, seed=1)
    for tile in (tiles[i] for i in drawn):
        candidate = candidates.build(tile)
        assert candidate.instructions > 0
        arguments = list(candidate.arguments.values())
        (found,) = emulated_board.run(candidate.library, arguments, mcpu, outputs=1)
        assert differing(found, candidates.wanted) == "", tile


def test_example_weights_keep_to_what_is_said_of_them(make_layer: Any) -> None:
    for symmetric in (False, True):
        values = random_arguments(make_layer(14, 14, 64, 96, symmetric=symmetric), 0)
        assert (values["weights"].min() == -128) != symmetric
