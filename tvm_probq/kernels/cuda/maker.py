"""Kernels of layers for CUDA."""

from __future__ import annotations

import tvm
from tvm import tirx

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arguments import argument_shapes
from tvm_probq.kernels.codes import Codes, Packed
from tvm_probq.kernels.cuda.fours import INSTRUCTION as FOURS
from tvm_probq.kernels.cuda.fours import by_fours, halved, pack_fours, packed_fours_shape
from tvm_probq.kernels.cuda.launch import Grid, launch_kernel
from tvm_probq.kernels.cuda.names import shape_name, tail_name, template, tile_name
from tvm_probq.kernels.cuda.packing import pack, packed_shape
from tvm_probq.kernels.cuda.tiles import (
    MAX_THREADS,
    WARP,
    BlockTile,
    blocks_of,
    by_vectors,
    check_tile,
    default_tile,
)
from tvm_probq.kernels.cuda.unit import cuda_unit
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile

ORDER = ("X", "W", "T", "WS", "B", "XQ", "CORR", "YQ", "R", "RQ", "OUT")
LANES = 4  # channels of such a thread


class CudaMaker:
    """`tvm_probq.kernels.maker.Maker` of a CUDA device.

    Parameters
    ----------
    target : tvm.target.Target
        Its ``arch`` decides the instructions.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.unit = cuda_unit(target)

    def default_tile(self, spec: LayerSpec) -> Tile:
        """A sound tile without any search."""
        return default_tile(spec)

    def kernel(self, spec: LayerSpec, tile: Tile) -> Kernel:
        """The kernel of a layer."""
        if tile.trace:
            raise KernelError(
                "a schedule of MetaSchedule is for x86", where=str(spec),
                why="kernels for CUDA are not made by schedules", fix="tune with --space template",
            )  # fmt: skip
        if packs(spec) and spec.groups > 1 and not spec.depthwise:
            raise KernelError(
                "no kernel for this layer", where=str(spec),
                why="codes of 4 bits of groups are packed by different blocks of threads",
                fix="store them in 8 bits",
            )  # fmt: skip
        if spec.depthwise:
            return Kernel(_depthwise(spec, _whole_warps(tile.columns)), "", 0, 0)
        if by_vectors(spec):
            return Kernel(_vector(spec, min(tile.columns, MAX_THREADS // WARP)), "dp4a", 0, 0)
        block, fours = BlockTile.of(tile), by_fours(spec, self.unit)
        check_tile(spec, block)
        seen = halved(spec) if fours else spec
        tensor, many = self.unit.tensor(seen), spec.out_height * spec.out_width == 1
        parts = (shape_name(seen), tail_name(spec), tile_name(block, tensor, fours), many)
        name, weights = template("dense", *parts), self.packed_shape(spec, tile)
        func = _function(spec, name, blocks_of(spec, block), block.threads, weights)
        instruction = FOURS if fours else "mma.sync" if tensor else "dp4a"
        return Kernel(func, instruction, 0, block.shared_bytes)

    def packed_shape(self, spec: LayerSpec, tile: Tile) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of its argument W, the same for all tiles."""
        return packed_fours_shape(spec) if by_fours(spec, self.unit) else packed_shape(spec)

    def pack(self, spec: LayerSpec, weights: Codes, tile: Tile) -> Packed:
        """Codes in that shape."""
        return pack_fours(spec, weights) if by_fours(spec, self.unit) else pack(spec, weights)


def packs(spec: LayerSpec) -> bool:
    """Whether the output is codes of 4 bits."""
    return spec.output == "codes" and spec.out_bits == HALF


def _function(
    spec: LayerSpec, function: str, grid: Grid, threads: int,
    weights: tuple[tuple[int, ...], str] | None = None,
) -> tirx.PrimFunc:  # fmt: skip
    arguments = [Argument(*a) for a in argument_shapes(spec, weights or packed_shape(spec))]
    return launch_kernel("layer", arguments, function, ORDER, grid, threads)


def _whole_warps(threads: int) -> int:
    return min(-(-threads // WARP) * WARP, MAX_THREADS)


def _depthwise(spec: LayerSpec, threads: int) -> tirx.PrimFunc:
    lanes = LANES if spec.out_channels % LANES == 0 else 1
    items = spec.out_height * spec.out_width * spec.out_channels // lanes
    name = template("depthwise", shape_name(spec), tail_name(spec), lanes, threads)
    return _function(spec, name, (-(-items // threads), 1, spec.batch), threads)


def _vector(spec: LayerSpec, warps: int) -> tirx.PrimFunc:
    name = template("vector", shape_name(spec), tail_name(spec), warps)
    outputs = spec.group_outputs // (2 if packs(spec) else 1)
    grid = (-(-outputs // warps), spec.groups, spec.batch)
    return _function(spec, name, grid, warps * WARP)
