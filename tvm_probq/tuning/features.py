"""What the cost model sees of a layer and a tile: counts that decide a kernel's time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.space import Space

F32 = npt.NDArray[np.float32]


def features(space: Space, tiles: Sequence[Tile]) -> F32:
    """Describe tiles of a layer.

    Each row holds the layer's size, the counts of the tile, and those of the default tile that
    its time is compared with; sizes are logarithms.

    Parameters
    ----------
    space : Space
        Of the layer.
    tiles : sequence of Tile
        Of the space.

    Returns
    -------
    ndarray of float32, shape [len(tiles), F]
    """
    layer = _layer(space)
    default = _tile(space, space.default)
    rows = []
    for tile in tiles:
        counts = _tile(space, tile)
        rows.append(layer + counts + [a - b for a, b in zip(counts, default, strict=True)])
    return np.array(rows, np.float32)


def _layer(space: Space) -> list[float]:
    spec, view = space.spec, space.extent
    flags = [spec.depthwise, spec.groups > 1, spec.residual, spec.linear, spec.output == "codes"]
    sizes = [spec.macs, spec.in_channels, spec.out_channels, view.rows, view.columns]
    sizes += [view.reduction, spec.kernel[0], spec.strides[1], view.step]
    return [*map(float, flags), *(math.log2(s) for s in sizes), float(spec.weight_bits)]


def _tile(space: Space, tile: Tile) -> list[float]:
    spec, view = space.spec, space.extent
    columns = spec.out_width if spec.depthwise else view.columns
    rows = spec.out_height if spec.depthwise else view.rows
    passes = -(-columns // tile.columns)
    wanted = -(-spec.group_outputs // view.block) * (spec.groups if spec.depthwise else 1)
    channel_passes = -(-wanted // tile.blocks)
    padding = math.log2(channel_passes * tile.blocks / wanted)
    tasks = space.task_count(tile)
    reuse = tile.rows * tile.columns * tile.column_tiles  # positions for which weights are read
    sums = tile.tile_rows * tile.columns * tile.blocks
    sizes = [
        tile.columns, tile.tile_rows, tile.blocks, sums, tile.rows, tile.column_tiles,
        tile.channel_tasks, passes, channel_passes, tasks, space.scratch_bytes(tile), reuse,
    ]  # fmt: skip
    last = columns % tile.columns / tile.columns
    loads = 1 / tile.columns + 1 / tile.blocks
    share = math.log2(rows * columns / reuse)  # how often all weights are read
    return [*(math.log2(s) for s in sizes), last, loads, padding, share]
