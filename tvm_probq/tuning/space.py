"""The design space: every sound tile of a layer on a vector unit, the default one first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx_shape import MOST_BLOCKS
from tvm_probq.kernels.x86.geometry import LANES, VectorUnit, channel_layout, geometry
from tvm_probq.kernels.x86.tiles import (
    MIN_TASKS,
    MIN_TILED_TASKS,
    MOST_POSITIONS,
    PARALLEL_MACS,
    default_tile,
    dots_fit,
)

LEAST_SUMS = 4  # in registers: fewer wait for each other
MOST_CHANNEL_TASKS = 16
MOST_PADDING = 1.34  # channels computed for each real one
SCRATCH_LIMIT = 128 * 1024
MOST_TILED_POSITIONS = 2 * MOST_POSITIONS
DEPTHWISE_COLUMNS = 15  # 16 vectors of sums are 1024 bytes, which TVM puts on the heap

RegisterSizes = tuple[int, int, int]  # rows, columns, blocks of 16 channels


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
    if spec.depthwise:
        found = _depthwise_tiles(spec, unit)
    else:
        registers = _matrix_tiles if unit.tiles else _register_tiles
        found = _conv_tiles(spec, unit, default, registers(spec, unit))
    return list(dict.fromkeys([default, *found]))


def scratch_bytes(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> int:
    """Estimate the bytes of input that one task reads, which is what a padded one copies.

    A depthwise task copies whole rows of its channels, and with dot products it also interleaves
    the pixels of one vector of channels.  Where codes are widened, a dense task copies 16 bits.
    """
    rows = (tile.rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    positions = tile.columns * tile.column_tiles
    reach = (spec.kernel[1] - 1) * spec.dilation[1] + 1
    wide = -(-spec.out_width // positions) * positions if spec.depthwise else positions
    found = rows * ((wide - 1) * spec.strides[1] + reach) * spec.in_channels
    if not spec.depthwise:
        return 2 * found if unit.wide else found
    found //= tile.channel_tasks
    if dots_fit(spec, unit):
        found += rows * (positions + reach) * 4 * LANES
    return found


def task_count(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> int:
    """Count what can run in parallel."""
    if spec.depthwise:
        return spec.batch * (spec.out_height // tile.rows) * tile.channel_tasks
    view = geometry(spec, unit)
    columns = -(-view.columns // (tile.columns * tile.column_tiles))
    return spec.batch * (view.rows // tile.rows) * columns * tile.channel_tasks


def _conv_tiles(
    spec: LayerSpec, unit: VectorUnit, default: Tile, registers: Iterable[RegisterSizes]
) -> Iterator[Tile]:
    """Every way to divide the work into tasks, for every register tile."""
    view = geometry(spec, unit)
    limit = max(SCRATCH_LIMIT, scratch_bytes(spec, unit, default))
    least_tasks = 1
    if spec.macs >= PARALLEL_MACS:  # one thread must not win by leaving nothing to the others
        fewest = MIN_TILED_TASKS if unit.tiles else MIN_TASKS
        least_tasks = min(fewest, task_count(spec, unit, default))
    for tile_rows, columns, blocks in registers:
        groups = -(-spec.group_outputs // (LANES * blocks))
        splits = _divisors(groups) if spec.groups == 1 else [1]
        for rows in (tile_rows * d for d in _divisors(view.rows // tile_rows)):
            for wide in _divisors(-(-view.columns // columns)):
                for split in splits:
                    tile = Tile(columns, blocks, rows, wide, split, tile_rows)
                    fits = view.rows == 1 or scratch_bytes(spec, unit, tile) <= limit
                    parallel = task_count(spec, unit, tile) >= least_tasks
                    if fits and parallel and split <= MOST_CHANNEL_TASKS:
                        yield tile


def _register_tiles(spec: LayerSpec, unit: VectorUnit) -> Iterator[RegisterSizes]:
    """Sums in vector registers; those of a last, short column tile need no care."""
    columns, wanted = geometry(spec, unit).columns, -(-spec.group_outputs // LANES)
    least = min(LEAST_SUMS, wanted * columns)
    for blocks in range(1, min(wanted, unit.accumulators) + 1):
        if -(-wanted // blocks) * blocks > MOST_PADDING * wanted:
            continue
        for tall in range(1, min(columns, unit.accumulators // blocks) + 1):
            if tall * blocks >= min(least, unit.accumulators):
                yield 1, tall, blocks


def _matrix_tiles(spec: LayerSpec, unit: VectorUnit) -> Iterator[RegisterSizes]:
    """Sums in tile registers: whole tiles only, of several rows where they are whole rows."""
    view, wanted = geometry(spec, unit), -(-spec.group_outputs // LANES)
    for rows, columns in product(_divisors(view.rows), _divisors(view.columns)):
        if rows * columns > MOST_TILED_POSITIONS or (rows > 1 and columns < view.columns):
            continue
        for blocks in range(1, min(wanted, MOST_BLOCKS) + 1):
            if -(-wanted // blocks) * blocks <= MOST_PADDING * wanted:
                yield rows, columns, blocks


def _depthwise_tiles(spec: LayerSpec, unit: VectorUnit) -> Iterator[Tile]:
    dots, layout = dots_fit(spec, unit), channel_layout(spec)
    vectors = layout.padded // layout.vector
    parts = [d for d in _divisors(vectors) if dots and d <= MOST_CHANNEL_TASKS] or [1]
    for columns in range(1, min(DEPTHWISE_COLUMNS, unit.accumulators, spec.out_width) + 1):
        count = -(-spec.out_width // columns)
        for rows, split in product(_divisors(spec.out_height), parts):
            for wide in _divisors(count) if dots else [count]:
                tile = Tile(columns, 1, rows, wide, split)
                if scratch_bytes(spec, unit, tile) <= SCRATCH_LIMIT:
                    yield tile


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
