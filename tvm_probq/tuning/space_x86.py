"""The design space of a layer on x86."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product

import tvm

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx_shape import MOST_BLOCKS
from tvm_probq.kernels.x86.geometry import (
    LANES,
    WORD,
    channel_layout,
    geometry,
    vector_unit,
)
from tvm_probq.kernels.x86.tiles import (
    MIN_TASKS,
    MIN_TILED_TASKS,
    MOST_POSITIONS,
    PARALLEL_MACS,
    default_tile,
    dots_fit,
)
from tvm_probq.tuning.extent import Extent, divisors

LEAST_SUMS = 4  # in registers: fewer wait for each other
MOST_CHANNEL_TASKS = 16
MOST_PADDING = 1.34  # channels computed for each real one
SCRATCH_LIMIT = 128 * 1024
MOST_TILED_POSITIONS = 2 * MOST_POSITIONS
DEPTHWISE_COLUMNS = 15  # 16 vectors of sums are 1024 bytes, which TVM puts on the heap

RegisterSizes = tuple[int, int, int]  # rows, columns, blocks of 16 channels


class X86Space:
    """`tvm_probq.tuning.space.Space` of an x86 CPU.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernel is generated for.
    """

    def __init__(self, spec: LayerSpec, target: tvm.target.Target) -> None:
        self.spec, self._unit = spec, vector_unit(spec, target)
        self._view = geometry(spec, self._unit)
        self.default = default_tile(spec, self._unit)

    @property
    def extent(self) -> Extent:
        """The layer as its kernels see it."""
        view = self._view
        return Extent(view.rows, view.columns, math.prod(view.reduction), LANES, self._unit.step)

    def tiles(self) -> list[Tile]:
        """Every tile, the default first; of a unit unknown here the default alone."""
        if self.spec.depthwise:
            found = self._depthwise_tiles()
        else:
            registers = self._matrix_tiles if self._unit.tiles else self._register_tiles
            found = self._conv_tiles(registers())
        return list(dict.fromkeys([self.default, *found]))

    def scratch_bytes(self, tile: Tile) -> int:
        """Estimate the bytes of input that one task reads, which is what a padded one copies.

        A depthwise task copies whole rows of its channels, and with dot products it also
        interleaves the pixels of one vector of channels.  Where codes are widened, a dense task
        copies 16 bits, and so does any of codes of 16 bits.
        """
        spec, unit = self.spec, self._unit
        rows = (tile.rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
        positions = tile.columns * tile.column_tiles
        reach = (spec.kernel[1] - 1) * spec.dilation[1] + 1
        wide = -(-spec.out_width // positions) * positions if spec.depthwise else positions
        found = rows * ((wide - 1) * spec.strides[1] + reach) * spec.in_channels
        if not spec.depthwise:
            return 2 * found if unit.wide else found
        found = found * (2 if spec.in_bits == WORD else 1) // tile.channel_tasks
        if dots_fit(spec, unit):
            found += rows * (positions + reach) * 4 * LANES
        return found

    def task_count(self, tile: Tile) -> int:
        """Count what can run in parallel."""
        spec, view = self.spec, self._view
        if spec.depthwise:
            return spec.batch * (spec.out_height // tile.rows) * tile.channel_tasks
        columns = -(-view.columns // (tile.columns * tile.column_tiles))
        return spec.batch * (view.rows // tile.rows) * columns * tile.channel_tasks

    def _conv_tiles(self, registers: Iterable[RegisterSizes]) -> Iterator[Tile]:
        """Every way to divide the work into tasks, for every register tile."""
        spec, view = self.spec, self._view
        limit = max(SCRATCH_LIMIT, self.scratch_bytes(self.default))
        least_tasks = 1
        if spec.macs >= PARALLEL_MACS:  # one thread must not win by leaving nothing to the others
            fewest = MIN_TILED_TASKS if self._unit.tiles else MIN_TASKS
            least_tasks = min(fewest, self.task_count(self.default))
        for tile_rows, columns, blocks in registers:
            groups = -(-spec.group_outputs // (LANES * blocks))
            splits = divisors(groups) if spec.groups == 1 else [1]
            for rows in (tile_rows * d for d in divisors(view.rows // tile_rows)):
                for wide, split in product(divisors(-(-view.columns // columns)), splits):
                    tile = Tile(columns, blocks, rows, wide, split, tile_rows)
                    fits = view.rows == 1 or self.scratch_bytes(tile) <= limit
                    parallel = self.task_count(tile) >= least_tasks
                    if fits and parallel and split <= MOST_CHANNEL_TASKS:
                        yield tile

    def _register_tiles(self) -> Iterator[RegisterSizes]:
        """Sums in vector registers; those of a last, short column tile need no care."""
        columns, most = self._view.columns, self._unit.accumulators
        wanted = -(-self.spec.group_outputs // LANES)
        least = min(LEAST_SUMS, wanted * columns)
        for blocks in range(1, min(wanted, most) + 1):
            if -(-wanted // blocks) * blocks > MOST_PADDING * wanted:
                continue
            for tall in range(1, min(columns, most // blocks) + 1):
                if tall * blocks >= min(least, most):
                    yield 1, tall, blocks

    def _matrix_tiles(self) -> Iterator[RegisterSizes]:
        """Sums in tile registers: whole tiles only, of several rows where they are whole rows."""
        view, wanted = self._view, -(-self.spec.group_outputs // LANES)
        for rows, columns in product(divisors(view.rows), divisors(view.columns)):
            if rows * columns > MOST_TILED_POSITIONS or (rows > 1 and columns < view.columns):
                continue
            for blocks in range(1, min(wanted, MOST_BLOCKS) + 1):
                if -(-wanted // blocks) * blocks <= MOST_PADDING * wanted:
                    yield rows, columns, blocks

    def _depthwise_tiles(self) -> Iterator[Tile]:
        spec, layout = self.spec, channel_layout(self.spec)
        dots = dots_fit(spec, self._unit)
        vectors = layout.padded // layout.vector
        parts = [d for d in divisors(vectors) if dots and d <= MOST_CHANNEL_TASKS] or [1]
        most = min(DEPTHWISE_COLUMNS, self._unit.accumulators, spec.out_width)
        for columns in range(1, most + 1):
            count = -(-spec.out_width // columns)
            for rows, split in product(divisors(spec.out_height), parts):
                for wide in divisors(count) if dots else [count]:
                    tile = Tile(columns, 1, rows, wide, split)
                    if self.scratch_bytes(tile) <= SCRATCH_LIMIT:
                        yield tile
