"""The design space of a layer on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda.tiles import (
    DEPTH,
    WARP,
    BlockTile,
    blocks_of,
    by_vectors,
    check_tile,
    default_tile,
    rows_of,
)
from tvm_probq.kernels.cuda.unit import cuda_unit
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.extent import Extent

ROWS, COLUMNS = (16, 32, 64, 128, 256), (16, 32, 64, 128)  # of a block
WARP_ROWS, WARP_COLUMNS = (16, 32, 64), (8, 16, 32, 64)
LEAST_SUMS, MOST_WARPS = 4, 16  # sums of a thread, warps of a block
SPARE = 2  # a block at most so many times the layer's size
THREADS, WARPS = (32, 64, 128, 256, 512), (1, 2, 4, 8, 16)


class CudaSpace:
    """`tvm_probq.tuning.space.Space` of a CUDA device.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernel is generated for.
    """

    def __init__(self, spec: LayerSpec, target: tvm.target.Target) -> None:
        self.spec, self._unit = spec, cuda_unit(target)
        self.default = default_tile(spec)

    @property
    def extent(self) -> Extent:
        """The layer as its kernels see it."""
        spec = self.spec
        rows, _ = rows_of(spec)
        length = spec.kernel[0] * spec.kernel[1] * (1 if spec.depthwise else spec.group_inputs)
        return Extent(1, rows, length, 1, WARP if self._unit.tensor(spec) else 4)

    def tiles(self) -> list[Tile]:
        """Every tile whose block has room for it, the default first."""
        if self.spec.depthwise:
            found = [Tile(threads, 1, 1, 1, 1) for threads in THREADS]
        elif by_vectors(self.spec):
            found = [Tile(warps, 1, 1, 1, 1) for warps in WARPS]
        else:
            found = [tile.as_tile() for tile in self._block_tiles()]
        return list(dict.fromkeys([self.default, *found]))

    def scratch_bytes(self, tile: Tile) -> int:
        """Shared memory of a block."""
        plain = self.spec.depthwise or by_vectors(self.spec)
        return DEPTH if plain else BlockTile.of(tile).shared_bytes

    def task_count(self, tile: Tile) -> int:
        """Count the blocks."""
        spec = self.spec
        if spec.depthwise:
            return spec.batch * -(-spec.out_height * spec.out_width * spec.out_channels // 4)
        if by_vectors(spec):
            return spec.batch * -(-spec.out_channels // tile.columns)
        down, across, products = blocks_of(spec, BlockTile.of(tile))
        return down * across * products

    def _block_tiles(self) -> Iterator[BlockTile]:
        rows, _ = rows_of(self.spec)
        for sizes in product(ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS):
            tile = BlockTile(*sizes)
            if tile.rows >= SPARE * max(rows, ROWS[0]) and tile.rows > ROWS[0]:
                continue
            outputs = max(self.spec.group_outputs, COLUMNS[0])
            if tile.columns >= SPARE * outputs and tile.columns > COLUMNS[0]:
                continue
            if self._sound(tile):
                yield tile

    def _sound(self, tile: BlockTile) -> bool:
        if tile.rows < tile.warp_rows or tile.columns < tile.warp_columns:
            return False
        if tile.accumulators < LEAST_SUMS or tile.threads > MOST_WARPS * WARP:
            return False
        try:
            check_tile(self.spec, tile)
        except KernelError:
            return False
        return True
