"""Codes of 4 bits on ARM: those of a task wait in scratch until both halves of bytes are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.unit import QUAD
from tvm_probq.kernels.arm.view import View
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.emit import load, loop, scratch, store, view, wide_blocks
from tvm_probq.kernels.small.halves import half_of, halves_together
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import staged_bytes
from tvm_probq.kernels.tile import Tile


@dataclass(frozen=True)
class Target:
    """Where the values of a task go.

    Attributes
    ----------
    buffer : buffer ``[elements]``
        The output, or the codes that are packed later.
    first : Any
        The position at the buffer's start.
    channels : int
        Elements of a position.
    """

    buffer: Any
    first: Any
    channels: int

    @staticmethod
    def of(spec: LayerSpec, output: Any, first: Any, positions: int) -> Target:
        """For a task of `positions` positions from `first` on."""
        channels = spec.out_channels
        if packs(spec):
            return Target(scratch("uint8", positions * channels), first, channels)
        elements = spec.batch * spec.out_height * spec.out_width * channels
        return Target(view(output, elements), 0, channels)

    def place(self, position: Any, channel: Any) -> Any:
        """Where a channel of a position lies."""
        return (position - self.first) * self.channels + channel

    def pack(self, spec: LayerSpec, output: Any, position: Any, count: int) -> None:
        """Pack `count` positions from `position` on, of a layer that packs."""
        half = self.channels // 2
        bytes_ = view(output, spec.batch * spec.out_height * spec.out_width * half)
        with loop(count) as i:

            def block(c: Any, lanes: int) -> None:
                lower, upper = (
                    load(self.buffer, self.place(position + i, c + at), lanes=lanes)
                    for at in (0, half)
                )
                packed = halves_together(lower, upper)
                store(bytes_, packed, (position + i) * half + c, lanes=lanes)

            wide_blocks(half, block)


def packs(spec: LayerSpec) -> bool:
    """Whether the output is codes of 4 bits."""
    return spec.output == "codes" and spec.out_bits == HALF


def halved_tile(spec: LayerSpec, layout: View, tile: Tile) -> Tile:
    """`tile` for a layer that packs: tasks of all channels, and few positions."""
    if not packs(spec):
        return tile
    limit = staged_bytes(spec)
    row = layout.columns * spec.out_channels
    rows = [n for n in range(1, tile.rows + 1) if tile.rows % n == 0]
    high = max((n for n in rows if n * row <= limit), default=1)
    wide = tile.column_tiles
    if layout.rows == 1:
        most = max(1, limit // (tile.columns * spec.out_channels))
        wide = max(n for n in range(1, wide + 1) if wide % n == 0 and n <= most)
    return replace(tile, rows=high, column_tiles=wide, channel_tasks=1)


def residual_quad(codes: Any, spec: LayerSpec, position_bytes: Any, channel: Any) -> Any:
    """Four codes uint8 from `channel` on, of a position whose bytes start at `position_bytes`."""
    half = spec.out_channels // 2
    upper = tirx.floordiv(channel, half)
    byte = load(codes, position_bytes + channel - upper * half, lanes=QUAD)
    return half_of(byte, upper)
