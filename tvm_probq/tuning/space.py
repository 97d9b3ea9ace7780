"""The design space: every sound tile of a layer on a vector unit, the default one first."""

from __future__ import annotations

from collections.abc import Iterator

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.geometry import LANES, VectorUnit, geometry
from tvm_probq.kernels.x86.tiles import (
    MIN_TASKS,
    PARALLEL_MACS,
    Tile,
    default_tile,
    dots_fit,
)

LEAST_SUMS = 4  # in registers: fewer wait for each other
MOST_CHANNEL_TASKS = 16
MOST_PADDING = 1.34  # channels computed for each real one
SCRATCH_LIMIT = 128 * 1024
DEPTHWISE_COLUMNS = 15  # 16 vectors of sums are 1024 bytes, which TVM puts on the heap


def tiles_of(spec: LayerSpec, unit: VectorUnit) -> list[Tile]:
    """Give the tiles that a layer's kernel can be built with.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    unit : VectorUnit
        What its kernel is generated for.

    Returns
    -------
    list of Tile
        Without repetition, the default first. A unit of another kind than those known here has
        the default alone.
    """
    default = default_tile(spec, unit)
    found = _depthwise_tiles(spec, unit) if spec.depthwise else _conv_tiles(spec, unit, default)
    return list(dict.fromkeys([default, *found]))


def scratch_bytes(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> int:
    """Estimate the bytes of input that one task reads, which is what a padded one copies.

    A depthwise task copies whole rows, and with dot products it also interleaves four pixels of
    one vector of channels.
    """
    rows = (tile.rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    positions = tile.columns * tile.column_tiles
    reach = (spec.kernel[1] - 1) * spec.dilation[1] + 1
    wide = -(-spec.out_width // positions) * positions if spec.depthwise else positions
    found = rows * ((wide - 1) * spec.strides[1] + reach) * spec.in_channels
    if spec.depthwise and dots_fit(spec, unit):
        found += rows * (positions + reach) * 4 * LANES
    return found


def task_count(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> int:
    """Count what can run in parallel."""
    if spec.depthwise:
        return spec.batch * (spec.out_height // tile.rows)
    view = geometry(spec, unit)
    columns = -(-view.columns // (tile.columns * tile.column_tiles))
    return spec.batch * (view.rows // tile.rows) * columns * tile.channel_tasks


def _conv_tiles(spec: LayerSpec, unit: VectorUnit, default: Tile) -> Iterator[Tile]:
    view = geometry(spec, unit)
    limit = max(SCRATCH_LIMIT, scratch_bytes(spec, unit, default))
    least_tasks = 1
    if spec.macs >= PARALLEL_MACS:  # one thread must not win by leaving nothing to the others
        least_tasks = min(MIN_TASKS, task_count(spec, unit, default))
    for columns, blocks in _register_tiles(spec, unit, view.columns):
        groups = -(-spec.group_outputs // (LANES * blocks))
        splits = _divisors(groups) if spec.groups == 1 else [1]
        for rows in _divisors(view.rows):
            for wide in _divisors(-(-view.columns // columns)):
                for split in splits:
                    tile = Tile(columns, blocks, rows, wide, split)
                    fits = view.rows == 1 or scratch_bytes(spec, unit, tile) <= limit
                    parallel = task_count(spec, unit, tile) >= least_tasks
                    if fits and parallel and split <= MOST_CHANNEL_TASKS:
                        yield tile


def _register_tiles(spec: LayerSpec, unit: VectorUnit, columns: int) -> Iterator[tuple[int, int]]:
    wanted = -(-spec.group_outputs // LANES)
    least = min(LEAST_SUMS, wanted * columns)
    for blocks in range(1, min(wanted, unit.accumulators) + 1):
        if -(-wanted // blocks) * blocks > MOST_PADDING * wanted:
            continue
        for tall in range(1, min(columns, unit.accumulators // blocks) + 1):
            if tall * blocks >= min(least, unit.accumulators):
                yield tall, blocks


def _depthwise_tiles(spec: LayerSpec, unit: VectorUnit) -> Iterator[Tile]:
    dots = dots_fit(spec, unit)
    for columns in range(1, min(DEPTHWISE_COLUMNS, unit.accumulators, spec.out_width) + 1):
        count = -(-spec.out_width // columns)
        for rows in _divisors(spec.out_height):
            for wide in _divisors(count) if dots else [count]:
                tile = Tile(columns, 1, rows, wide, 1)
                if scratch_bytes(spec, unit, tile) <= SCRATCH_LIMIT:
                    yield tile


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
