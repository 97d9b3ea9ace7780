"""The design space of a layer on 64-bit ARM."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import tvm

from tvm_probq.kernels.arm.depthwise import PARALLEL_MACS as DEPTHWISE_PARALLEL_MACS
from tvm_probq.kernels.arm.source import copied_rows
from tvm_probq.kernels.arm.tiles import (
    MIN_TASKS,
    PARALLEL_MACS,
    code_bytes,
    default_tile,
    depthwise_tile,
    fits,
)
from tvm_probq.kernels.arm.unit import QUAD, VECTOR, arm_unit
from tvm_probq.kernels.arm.view import channel_blocks, view_of
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.extent import Extent, divisors

LEAST_SUMS = 4  # registers of sums: fewer wait for each other
MOST_CHANNEL_TASKS = 16
SCRATCH_LIMIT = 128 * 1024
DEPTHWISE_COLUMNS = 6  # of four registers of sums each: more leave none for the products


class ArmSpace:
    """`tvm_probq.tuning.space.Space` of a 64-bit ARM CPU.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernel is generated for.
    """

    def __init__(self, spec: LayerSpec, target: tvm.target.Target) -> None:
        self.spec, self._unit = spec, arm_unit(spec, target)
        self._view = view_of(spec, self._unit)
        self.default = (
            depthwise_tile(spec, self._view)
            if spec.depthwise
            else default_tile(spec, self._view, self._unit)
        )

    @property
    def extent(self) -> Extent:
        """The layer as its kernels see it."""
        view, unit = self._view, self._unit
        if self.spec.depthwise:
            return Extent(view.rows, view.columns, view.steps, VECTOR, unit.grain)
        step = unit.grain * unit.columns
        return Extent(view.rows, view.columns, view.steps * view.padded, QUAD, step)

    def tiles(self) -> list[Tile]:
        """Every tile, the default first."""
        found = self._depthwise_tiles() if self.spec.depthwise else self._dense_tiles()
        limit = max(SCRATCH_LIMIT, self.scratch_bytes(self.default))
        least = self._least_tasks()
        sound = (
            tile
            for tile in found
            if (self._view.rows == 1 or self.scratch_bytes(tile) <= limit)
            and self.task_count(tile) >= least
        )
        return list(dict.fromkeys([self.default, *sound]))

    def scratch_bytes(self, tile: Tile) -> int:
        """Estimate the bytes of input that one task reads, which is what a copying one copies."""
        view = self._view
        if view.rows == 1 and not view.copied:
            return tile.columns * tile.column_tiles * view.column_bytes
        high, wide = copied_rows(self.spec, view, tile.rows)
        return high * wide * code_bytes(self.spec)

    def task_count(self, tile: Tile) -> int:
        """Count what can run in parallel."""
        view, batch = self._view, self.spec.batch
        if self.spec.depthwise:
            return batch * (view.rows // tile.rows)
        across = max(1, view.columns // (tile.columns * tile.column_tiles))
        return batch * (view.rows // tile.rows) * across * tile.channel_tasks

    def _least_tasks(self) -> int:
        """Tasks that stay: one thread must not win by leaving nothing to the others."""
        large = DEPTHWISE_PARALLEL_MACS if self.spec.depthwise else PARALLEL_MACS
        return min(MIN_TASKS, self.task_count(self.default)) if self.spec.macs >= large else 1

    def _dense_tiles(self) -> Iterator[Tile]:
        """Every way to divide the work into tasks, for every register tile."""
        spec, view = self.spec, self._view
        for columns, quads in self._register_tiles():
            tiles = max(1, view.columns // columns)
            # A task that copies rows copies them whole: to split them would copy them again.
            across = [tiles] if view.copied else divisors(tiles)
            count, _, left = channel_blocks(spec.group_outputs, quads)
            splits = [1]
            if spec.groups == 1 and left is None:
                splits = [d for d in divisors(count) if d <= MOST_CHANNEL_TASKS]
            for rows, wide, split in product(divisors(view.rows), across, splits):
                yield Tile(columns, quads, rows, wide, split)

    def _register_tiles(self) -> Iterator[tuple[int, int]]:
        """Positions and blocks of four channels whose sums fit the registers."""
        view, unit = self._view, self._unit
        wanted = -(-self.spec.group_outputs // QUAD)
        least = min(LEAST_SUMS, unit.registers(view.columns, wanted))
        for quads in range(1, wanted + 1):
            if not fits(view, unit, 1, quads):
                return
            for columns in range(1, view.columns + 1):
                if not fits(view, unit, columns, quads):
                    break
                if unit.registers(columns, quads) >= least:
                    yield columns, quads

    def _depthwise_tiles(self) -> Iterator[Tile]:
        width = self.spec.out_width
        for columns in range(1, min(DEPTHWISE_COLUMNS, width) + 1):
            for rows in divisors(self.spec.out_height):
                yield Tile(columns, 1, rows, max(1, width // columns), 1)
