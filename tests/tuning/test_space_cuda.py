"""The design space of CUDA devices: what fits a thread block, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from random_layers import layers

from tvm_probq.kernels.cuda.tiles import BlockTile, by_vectors, check_tile
from tvm_probq.kernels.layer import layer_kernel, layer_maker
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.tuning.features import features
from tvm_probq.tuning.space import space_of, tiles_of
from tvm_probq.tuning.space_cuda import MOST_WARPS

ARCHITECTURES = ("sm_61", "sm_75", "sm_80", "sm_90")
SHARED = 48 << 10


def cuda(arch: str) -> Any:
    return tvm.target.Target({"kind": "cuda", "arch": arch}, host={"kind": "llvm"})


@settings(max_examples=60, deadline=None)
@given(spec=layers(), arch=st.sampled_from(ARCHITECTURES))
def test_every_tile_fits_a_block(spec: LayerSpec, arch: str) -> None:
    target = cuda(arch)
    tiles = tiles_of(spec, target)
    assert tiles[0] == layer_maker(target).default_tile(spec)
    assert len(set(tiles)) == len(tiles) > 1
    for tile in tiles:
        if spec.depthwise or by_vectors(spec):
            assert tile.columns <= 512
            continue
        block = BlockTile.of(tile)
        check_tile(spec, block)
        assert block.shared_bytes <= SHARED
        assert block.threads <= 32 * MOST_WARPS
    layer_kernel(spec, target, tiles[-1])


@pytest.mark.parametrize("name", ["pointwise", "depthwise", "dense"])
def test_the_cost_model_can_describe_tiles(name: str, all_layers: Any) -> None:
    space = space_of(all_layers[name], cuda("sm_80"))
    found = features(space, space.tiles())
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) > 1


def test_small_layers_have_small_blocks(make_layer: Any) -> None:
    target = cuda("sm_80")
    few = tiles_of(make_layer(4, 4, 64, 16), target)
    many = tiles_of(make_layer(56, 56, 64, 256), target)
    assert max(t.columns * t.blocks for t in few[1:]) == 16 * 16
    assert max(t.columns * t.blocks for t in many) == 128 * 128
    assert len(many) > len(few)
