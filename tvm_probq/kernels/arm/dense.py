"""Dense layers on ARM: tasks > blocks of channels > rows > register tiles > products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.arm.epilogue import Epilogue
from tvm_probq.kernels.arm.halves import Target, packs
from tvm_probq.kernels.arm.packing import (
    INT32_BYTES,
    block_bytes,
    chunk_bytes,
    header_bytes,
    padded_channels,
    tap_bytes,
)
from tvm_probq.kernels.arm.products import Products, products_of
from tvm_probq.kernels.arm.registers import load_codes
from tvm_probq.kernels.arm.source import Source, source_of
from tvm_probq.kernels.arm.unit import ArmUnit
from tvm_probq.kernels.arm.unpacking import Weights, room_for, unpack
from tvm_probq.kernels.arm.view import Block, View, channel_blocks, narrow_runs
from tvm_probq.kernels.small.emit import loop
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

PARALLEL_MACS = 1 << 20


@dataclass(frozen=True)
class Dense:
    """The statements of one sample of a layer that sums over channels.

    `buffers` are the kernel's arguments by name.
    """

    spec: LayerSpec
    layout: View
    unit: ArmUnit
    tile: Tile
    buffers: Mapping[str, Any]
    sample: Any

    @property
    def _narrow(self) -> int:
        return narrow_runs(self.spec, self.layout, self.unit)

    def emit(self) -> None:
        """Split the work into tasks."""
        spec, tile = self.spec, self.tile
        down = self.layout.rows // tile.rows
        across = max(1, self.layout.columns // (tile.columns * tile.column_tiles))
        count = down * across * tile.channel_tasks
        tasks = ir.parallel if spec.macs >= PARALLEL_MACS and count > 1 else ir.serial
        with tasks(count) as task:
            part = task % tile.channel_tasks
            place = task // tile.channel_tasks
            self._task(place // across * tile.rows, place % across, across, part)

    def _task(self, row: Any, across: Any, parts: int, part: Any) -> None:
        spec, layout, blocks = self.spec, self.layout, self.tile.blocks
        found = source_of(
            spec, layout, self.buffers["X"], self.buffers["XQ"], self.sample, row, self.tile.rows
        )
        count, whole, left = channel_blocks(spec.group_outputs, blocks)
        size = block_bytes(spec, layout, whole.quads)
        rest = block_bytes(spec, layout, left.quads) if left else 0
        each = count // self.tile.channel_tasks
        target = self._target(row, across, parts)
        memory = room_for(spec, layout, whole.quads) if self._unpacks_ahead(parts) else None
        with loop(spec.groups) as group:
            start = header_bytes(spec) + group * (count * size + rest)

            def block(channels: Block, i: Any) -> None:
                weights = Weights(self.buffers["W"], start + i * size, spec)
                if memory is not None:
                    weights = unpack(weights, layout, self.unit, channels.quads, memory)
                place = (group, i * whole.real, weights)
                self._block(found, row, (across, parts), channels, place, target)

            with loop(each) as i:
                block(whole, part * each + i)
            if left:
                block(left, count)
        if packs(spec):
            self._pack(target, row, across, parts)

    def _target(self, row: Any, part: Any, parts: int) -> Target:
        """Where the values of a task go."""
        tiles, rest = divmod(self.layout.columns, self.tile.columns)
        each = tiles // parts * self.tile.columns
        first = (self.sample * self.layout.rows + row) * self.layout.columns + part * each
        positions = (self.tile.rows - 1) * self.layout.columns + each + rest
        return Target.of(self.spec, self.buffers["OUT"], first, positions)

    def _pack(self, target: Target, row: Any, part: Any, parts: int) -> None:
        """Pack the codes of a task."""
        tiles, rest = divmod(self.layout.columns, self.tile.columns)
        each = tiles // parts * self.tile.columns
        with loop(self.tile.rows) as h:
            start = (self.sample * self.layout.rows + row + h) * self.layout.columns

            def pack(column: Any, count: int) -> None:
                if count:
                    target.pack(self.spec, self.buffers["OUT"], start + column, count)

            pack(part * each, each)
            if rest and parts > 1:
                with ir.If(part == parts - 1), ir.Then():
                    pack(tiles * self.tile.columns, rest)
            else:
                pack(tiles * self.tile.columns, rest)

    def _unpacks_ahead(self, parts: int) -> bool:
        """Whether several register tiles of a task read the same weights of fewer than 8 bits."""
        tiles, rest = divmod(self.layout.columns, self.tile.columns)
        several = self.tile.rows * (tiles // parts + (rest > 0)) > 1
        return self.spec.weight_bits < 8 and several

    def _block(
        self, source: Source, row: Any, across: tuple[Any, int], block: Block,
        place: tuple[Any, Any, Weights], target: Target,
    ) -> None:  # fmt: skip
        """A block of channels of all positions of a task.

        `place` is the group, the block's first channel in it, and where its weights lie.
        """
        spec, tile, (group, channel, weights) = self.spec, self.tile, place
        header = (group * padded_channels(spec) + channel) * INT32_BYTES
        first = group * spec.group_outputs + channel
        epilogue = Epilogue(spec, self.buffers, self.sample, first, block.real, header)
        tiles, rest = divmod(self.layout.columns, tile.columns)
        part, parts = across
        with loop(tile.rows) as h:
            start = source.first + h * (spec.strides[0] * source.pitch) + group * spec.group_inputs
            position = (self.sample * self.layout.rows + row + h) * self.layout.columns

            def positions(column: Any, count: int) -> None:
                at = start + column * self.layout.column_bytes
                starts, narrow = epilogue.starts(), self._narrow > 0
                bits = weights.spec.weight_bits
                sums = products_of(self.unit, count, block.quads, bits, starts, narrow)
                self._sum_up(sums, source, at, count, block, weights)
                self._finish(sums, epilogue, position + column, count, first, target)

            if tiles:
                with loop(tiles // parts) as w:
                    positions((part * (tiles // parts) + w) * tile.columns, tile.columns)
            if rest and parts > 1:
                with ir.If(part == parts - 1), ir.Then():
                    positions(tiles * tile.columns, rest)
            elif rest:
                positions(tiles * tile.columns, rest)

    def _finish(
        self, sums: Products, epilogue: Epilogue, position: Any, columns: int, channel: Any,
        target: Target,
    ) -> None:  # fmt: skip
        """Make output values of a register tile's sums, and store them."""
        values = [epilogue.values(sums.sums(i), position + i) for i in range(columns)]
        places = [target.place(position + i, channel) for i in range(columns)]
        epilogue.store(values, target.buffer, places)

    def _sum_up(
        self, sums: Products, source: Source, start: Any, columns: int, block: Block,
        weights: Weights,
    ) -> None:  # fmt: skip
        """Go through all taps, and through the chunks of each."""
        spec, layout = weights.spec, self.layout
        chunks = layout.chunks
        long = [c for c in chunks if c[1] == chunks[0][1]]
        size = chunk_bytes(spec, chunks[0][1], block.quads)
        of_tap = tap_bytes(spec, layout, block.quads)

        def chunk(place: Any, weight: Any, start: Any, length: int) -> None:
            codes = [
                load_codes(source.codes, place + i * layout.column_bytes, length)
                for i in range(columns)
            ]
            numbers = weights.multipliers(layout, self.unit, block.quads, (start, length))
            sums.add(codes, weights.buffer, weight, numbers)

        narrow = self._narrow
        with loop(layout.taps[0]) as kh, loop(layout.taps[1]) as kw:
            place = start + kh * (spec.dilation[0] * source.pitch) + kw * layout.tap_bytes
            weight = weights.first + (kh * layout.taps[1] + kw) * of_tap
            with loop(len(long)) as c:
                first, length = c * chunks[0][1], chunks[0][1]
                chunk(place + first, weight + c * size, first, length)
            at = len(long) * size
            for first, length in chunks[len(long) :]:
                chunk(place + first, weight + at, first, length)
                at += chunk_bytes(spec, length, block.quads)
            if narrow == 1:
                sums.flush()
        if narrow > 1:
            sums.flush()
