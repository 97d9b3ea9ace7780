"""How AMX cuts a convolution, and the code that comes out of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import PACKED, expected, kernel_arguments, random_arguments

from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86 import conv_schedule
from tvm_probq.kernels.x86.amx import CONFIG_BYTES
from tvm_probq.kernels.x86.amx_shape import TILE_ROWS, TILE_STEPS, TILES, Chunks, RegisterTile
from tvm_probq.kernels.x86.geometry import geometry, vector_unit
from tvm_probq.kernels.x86.tiles import default_tile
from tvm_probq.target.host import missing_features

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "sapphirerapids"})
SPEC = LayerSpec(
    batch=1, height=14, width=14, in_channels=64, out_channels=64, kernel=(3, 3), strides=(1, 1),
    pads=(1, 1, 1, 1), dilation=(1, 1), groups=1, weight_bits=8, activation="none",
    output="codes", correction=False, residual=False, in_ranges=1, out_ranges=1,
)  # fmt: skip


@given(st.integers(1, 300))
def test_chunks_read_every_step_and_nothing_behind(steps: int) -> None:
    chunks = Chunks.of(steps)
    assert chunks.length <= min(TILE_STEPS, steps)
    starts = [min(i * chunks.length, steps - chunks.length) for i in range(chunks.count)]
    read = [s + k for s in starts for k in range(chunks.length)]
    assert set(read) == set(range(steps))
    assert len(read) - steps == chunks.shared


@given(st.integers(1, 8), st.integers(1, 64), st.integers(1, 3))
def test_tiles_cover_every_position_and_registers_are_distinct(
    rows: int, columns: int, blocks: int
) -> None:
    tile = RegisterTile.of(rows, columns, blocks)
    assert tile.height <= min(TILE_ROWS, columns)
    covered = {(h, w + i) for h, w in tile.starts for i in range(tile.height)}
    assert covered == {(h, w) for h in range(rows) for w in range(columns)}
    assert [start for part in tile.passes for start in part] == list(tile.starts)
    for part in tile.passes:
        sums = {tile.sums(i, b) for i in range(len(part)) for b in range(blocks)}
        weights = {tile.weights(b) for b in range(blocks)}
        inputs = {tile.inputs(i) for i in range(len(part))}
        assert len(sums) == len(part) * blocks
        used = [*sums, *weights, *inputs]
        assert len(used) == len(set(used))
        assert set(used) <= set(range(TILES))


@pytest.mark.parametrize(
    ("spec", "instruction"),
    [
        (SPEC, "tdpbusd"),
        (replace(SPEC, weight_bits=6), "tdpbusd"),
        (replace(SPEC, groups=2), "vpdpbusd"),
        (replace(SPEC, height=1, width=1), "vpdpbusd"),
    ],
    ids=["dense", "6-bit", "groups", "one position"],
)
def test_layers_that_tiles_do_not_suit_use_vectors(spec: LayerSpec, instruction: str) -> None:
    assert vector_unit(spec, TARGET).instruction == instruction


def test_sums_stay_in_tiles_and_their_registers_are_given_back(kernel_assembly: Any) -> None:
    kernel = layer_kernel(SPEC, TARGET)
    asm = kernel_assembly(kernel.func, TARGET)
    assert kernel.instruction == "tdpbusd"
    assert kernel.workspace_bytes <= 8192
    assert count_instruction(asm, "tdpbusd") > 0
    assert count_instruction(asm, "ldtilecfg") == count_instruction(asm, "tilerelease") == 1
    assert count_instruction(asm, "vpextrb") == 0


@pytest.mark.parametrize("bits", [6, 4, 2])
def test_tiles_read_weights_that_were_unpacked(kernel_assembly: Any, bits: int) -> None:
    packed = replace(SPEC, in_channels=256, weight_bits=bits)
    tile = Tile(14, 2, 14, 1, 1)
    kernels = [
        layer_kernel(spec, TARGET, tile) for spec in (replace(packed, weight_bits=8), packed)
    ]
    assert count_instruction(kernel_assembly(kernels[1].func, TARGET), "tdpbusd") > 0
    block = tile.blocks * 16 * 9 * packed.in_channels  # weights of the channels of a register tile
    assert kernels[1].scratch_bytes == kernels[0].scratch_bytes + block
    assert "llvm.prefetch" not in kernels[1].func.script()


def test_unpacked_weights_lie_as_tiles_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain loops in place of tiles, which not every machine has, over the same buffers."""
    monkeypatch.setattr(conv_schedule, "use_tiles", lambda func, _cut: func)
    features = ["+amx-tile", "+amx-int8"]
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake", "mattr": features})
    if missing_features(["avx512vnni"]):
        pytest.skip("this CPU has no avx512vnni, code for cascadelake cannot run")
    for spec in (s for s in PACKED[::3] if vector_unit(s, target).tiles):
        values = random_arguments(spec)
        func = layer_kernel(spec, target).func.with_attr("global_symbol", "main")
        arguments = [tvm.runtime.tensor(a) for a in kernel_arguments(spec, target, values)]
        tvm.tirx.build(func, target=target)["main"](*arguments)
        np.testing.assert_array_equal(arguments[-1].numpy(), expected(spec, values))


@pytest.mark.parametrize("tile", [Tile(5, 2, 14, 1, 1), Tile(14, 2, 7, 1, 1, 2)], ids=str)
def test_a_remainder_is_refused(tile: Tile) -> None:
    with pytest.raises(KernelError, match="tile registers need whole tiles"):
        layer_kernel(SPEC, TARGET, tile)


def test_too_many_channel_blocks_are_refused() -> None:
    with pytest.raises(KernelError, match="too wide for tile registers"):
        layer_kernel(SPEC, TARGET, Tile(14, 4, 14, 1, 1))


@pytest.mark.parametrize(("channels", "packs"), [(64, True), (40, False)])
def test_whole_blocks_of_codes_are_packed(kernel_assembly: Any, channels: int, packs: bool) -> None:
    kernel = layer_kernel(replace(SPEC, out_channels=channels), TARGET)
    asm = kernel_assembly(kernel.func, TARGET)
    assert bool(count_instruction(asm, "vpackuswb")) == packs
    assert bool(count_instruction(asm, "vpmovdb")) == (not packs)


def test_short_rows_are_gathered_and_make_whole_tiles() -> None:
    spec = replace(SPEC, height=7, width=7, out_channels=128)
    view = geometry(spec, vector_unit(spec, TARGET))
    assert (view.rows, view.columns, view.gathered) == (1, 49, 3 * 64)
    kernel = layer_kernel(spec, TARGET)
    gathered = 9 * 7 * 3 * 64  # rows with padding, columns, kernel row
    assert kernel.scratch_bytes == gathered + CONFIG_BYTES
    for other in (
        SPEC,
        replace(spec, out_channels=64),
        replace(spec, in_channels=48),
        replace(spec, dilation=(2, 2), pads=(2, 2, 2, 2)),
    ):
        assert not geometry(other, vector_unit(other, TARGET)).gathered


@pytest.mark.parametrize(("channels", "stores"), [(256, 4), (2048, 4 + 1)])
def test_long_sums_are_interrupted_by_a_store(channels: int, stores: int) -> None:
    spec = replace(SPEC, in_channels=channels, kernel=(1, 1), pads=(0, 0, 0, 0))
    kernel = layer_kernel(spec, TARGET, Tile(28, 2, 1, 7, 1))
    assert kernel.func.script().count("tilestored64") == stores


@pytest.mark.parametrize(("rows", "lines"), [(14, 5), (2, 32)])
def test_weights_to_come_are_fetched_a_share_by_each_tile(rows: int, lines: int) -> None:
    spec = replace(SPEC, in_channels=256, out_channels=256, kernel=(1, 1), pads=(0, 0, 0, 0))
    spec = replace(spec, height=rows)
    kernel = layer_kernel(spec, TARGET, Tile(28, 2, 1, rows // 2, 1))
    assert kernel.func.script().count("llvm.prefetch") == lines


def test_a_prime_number_of_columns_still_fills_tiles() -> None:
    spec = replace(SPEC, height=1, width=127, kernel=(1, 1), pads=(0, 0, 0, 0))
    assert default_tile(spec, vector_unit(spec, TARGET)).columns == 127
