"""Codes of 4 bits: unpacked into scratch when a task starts, packed behind the rows of a task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tvm import s_tir, te, tirx

from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import staged_bytes
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.geometry import Channels, VectorUnit, geometry

RESIDUAL, OUT = "unpacked_residual", "halves"  # blocks
WIDEST = 64  # bytes of a vector


def half_of(x: te.Tensor, at: tuple[Any, ...], first: Any, c: Any, channels: int) -> Any:
    """The code, uint8, of channel `c` of a position whose bytes start at ``x[*at, first]``."""
    half = channels // 2
    byte = x[(*at, first + c % half)]
    return (byte >> (c // half * HALF).astype("uint8")) & tirx.const(15, "uint8")


def unpacked_residual(residual: te.Tensor, view: tuple[int, ...]) -> te.Tensor:
    """The codes uint8 of the packed tensor R ``[N, rows, columns, OC / 2]``, of the output's view.

    It is ``[N, rows, columns, groups, channels of a group]``.
    """
    *_, groups, real = view

    def code(n: Any, h: Any, w: Any, g: Any, c: Any) -> Any:
        return half_of(residual, (n, h, w), 0, g * real + c, groups * real)

    return te.compute(view, code, name=RESIDUAL)


def packed_output(values: te.Tensor, channels: Channels, view: tuple[int, ...]) -> te.Tensor:
    """Bytes of two codes in the block "value": of half the groups, or of half a single one."""
    *outer, groups, real = view
    down, right = (groups // 2, 0) if groups > 1 else (0, real // 2)

    def code(n: Any, h: Any, w: Any, g: Any, c: Any) -> Any:
        return values[n, h, w, g, c] if channels.exact else values[n, g, h, w, c]

    def byte(n: Any, h: Any, w: Any, g: Any, c: Any) -> Any:
        upper = code(n, h, w, g + down, c + right)
        return code(n, h, w, g, c) | (upper << tirx.const(HALF, "uint8"))

    shape = (*outer, groups - down, real - right)
    return te.compute(shape, byte, name=OUT)


def split_halves(sch: s_tir.Schedule, loop: Any, channels: int) -> Any:
    """Vectors of `loop`, which goes over all channels of some positions: that over positions."""
    half = channels // 2
    lanes = math.gcd(half, WIDEST)
    position, upper, _, lane = sch.split(loop, [None, 2, half // lanes, lanes])
    sch.unroll(upper)
    sch.vectorize(lane)
    return position


def split_tasks(sch: s_tir.Schedule, rows: int, columns: int) -> Any:
    """Pack `rows` by `columns` positions at a time, computed before in the same loop: that loop."""
    block = sch.get_sblock(OUT)
    n, h, w, g, c = sch.get_loops(block)
    rb, h = sch.split(h, [None, min(rows, int(sch.get(h).extent))])
    wb, w = sch.split(w, [None, min(columns, int(sch.get(w).extent))])
    sch.reorder(n, rb, wb, h, w, g, c)
    lanes = math.gcd(int(sch.get(c).extent), WIDEST)
    sch.vectorize(sch.split(c, [None, lanes])[1])
    task = sch.fuse(n, rb, wb)
    sch.compute_at(sch.get_sblock("value"), task, preserve_unit_loops=True)
    return task


def place_residual(sch: s_tir.Schedule, spec: LayerSpec, task: Any) -> None:
    """Unpack the residual of a task, if it is packed, at the start."""
    if not (spec.residual and spec.residual_bits == HALF):
        return
    block = sch.get_sblock(RESIDUAL)
    sch.compute_at(block, task, preserve_unit_loops=True)
    group, channel = sch.get_loops(block)[-2:]
    split_halves(sch, sch.fuse(group, channel), spec.out_channels)


def writes_halves(spec: LayerSpec) -> bool:
    """Whether the output is codes of 4 bits."""
    return spec.output == "codes" and spec.out_bits == HALF


def halved_tile(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> Tile:
    """`tile` for a layer that packs or unpacks: tasks of all channels, and few positions.

    What a task packs, and the residual that it unpacks, lie in scratch a byte a code.
    """
    staged = writes_halves(spec) or (spec.residual and spec.residual_bits == HALF)
    if not staged:
        whole = spec.depthwise and spec.in_bits == HALF
        return replace(tile, channel_tasks=1) if whole else tile
    across = spec.out_width if spec.depthwise else geometry(spec, unit).columns
    limit = staged_bytes(spec)
    row = min(across, tile.columns * tile.column_tiles) * spec.out_channels
    rows = [n for n in range(1, tile.rows + 1) if tile.rows % n == 0 and n % tile.tile_rows == 0]
    fitting = [n for n in rows if n * row <= limit]
    wide = tile.column_tiles
    if not fitting and not spec.depthwise:
        least = rows[0] * tile.columns * spec.out_channels
        most = max(1, limit // least)
        wide = max(n for n in range(1, wide + 1) if tile.column_tiles % n == 0 and n <= most)
    return replace(tile, channel_tasks=1, rows=max(fitting, default=rows[0]), column_tiles=wide)
