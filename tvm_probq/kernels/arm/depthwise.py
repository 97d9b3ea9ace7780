"""Depthwise layers on ARM: lanes are channels, products of 16 bits are added while they fit.

One product of a vector of codes and one of weights is 8 sums of 16 bits; two fit (with 4-bit
weights 31) before they are added to 32 bits.  Columns of a register tile share what they read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.arm.depthwise_packing import channel_vectors, depthwise_header_bytes
from tvm_probq.kernels.arm.epilogue import Epilogue
from tvm_probq.kernels.arm.halves import Target, packs
from tvm_probq.kernels.arm.packing import INT32_BYTES
from tvm_probq.kernels.arm.products import word_products
from tvm_probq.kernels.arm.registers import half, load_codes, neon
from tvm_probq.kernels.arm.source import Source, channels_source, padded_channels, source_of
from tvm_probq.kernels.arm.unit import EIGHT, QUAD, VECTOR, ArmUnit, narrow_sums
from tvm_probq.kernels.arm.view import View
from tvm_probq.kernels.small.emit import (
    let,
    load,
    loop,
    scratch,
    store,
    view,
)
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

PARALLEL_MACS = 1 << 18


@dataclass(frozen=True)
class Depthwise:
    """The statements of one sample of a depthwise layer; all else as for `Dense`."""

    spec: LayerSpec
    layout: View
    unit: ArmUnit
    tile: Tile
    buffers: Mapping[str, Any]
    sample: Any

    @property
    def _pixel(self) -> int:
        """Bytes from a pixel of the source to the next."""
        return padded_channels(self.spec) if self.layout.copied else self.spec.in_channels

    @property
    def _most(self) -> int:
        """Taps whose products are added together, bytes' in 16 bits."""
        if self.unit.instruction == "smlal":
            return 1
        if self.spec.weight_bits == 4:
            return narrow_sums(4)
        return 2 if self.unit.pairs else 1

    def emit(self) -> None:
        """Split the work into tasks of rows."""
        spec, rows = self.spec, self.tile.rows
        count = spec.out_height // rows
        tasks = ir.parallel if spec.macs >= PARALLEL_MACS and count > 1 else ir.serial
        with tasks(count) as task:
            self._task(task * rows)

    def _task(self, row: Any) -> None:
        spec = self.spec
        plain = spec.in_ranges == 1 and self._pixel == spec.in_channels
        make = source_of if plain else channels_source
        found = make(
            spec, self.layout, self.buffers["X"], self.buffers["XQ"], self.sample, row,
            self.tile.rows,
        )  # fmt: skip
        first = (self.sample * spec.out_height + row) * spec.out_width
        count = self.tile.rows * spec.out_width
        target = Target.of(spec, self.buffers["OUT"], first, count)
        taps = spec.kernel[0] * spec.kernel[1]
        size = taps if spec.weight_bits == 8 else -(-taps // 2)

        def vector(first: Any, lanes: int, real: int) -> None:
            weights = depthwise_header_bytes(spec) + size * first
            self._vector(found, row, first, lanes, real, weights, target)

        whole = spec.out_channels // VECTOR
        if whole:
            with loop(whole) as i:
                vector(i * VECTOR, VECTOR, VECTOR)
        for first, lanes in channel_vectors(spec)[whole:]:
            vector(first, lanes, min(lanes, spec.out_channels - first))
        if packs(spec):
            target.pack(spec, self.buffers["OUT"], target.first, count)

    def _vector(
        self, source: Source, row: Any, channel: Any, lanes: int, real: int, weights: Any,
        target: Target,
    ) -> None:  # fmt: skip
        """A vector of channels of all positions of a task."""
        spec, tile = self.spec, self.tile
        epilogue = Epilogue(spec, self.buffers, self.sample, channel, real, channel * INT32_BYTES)
        taps = self._weights(weights, lanes)
        tiles, rest = divmod(spec.out_width, tile.columns)
        with loop(tile.rows) as h:
            start = source.first + h * (spec.strides[0] * source.pitch) + channel
            position = (self.sample * spec.out_height + row + h) * spec.out_width

            def positions(column: Any, count: int) -> None:
                place = start + column * (spec.strides[1] * self._pixel)
                sums = self._sums(source, place, count, lanes, taps, epilogue.starts())
                self._finish(sums, epilogue, position + column, count, lanes, channel, target)

            if tiles:
                with loop(tiles) as w:
                    positions(w * tile.columns, tile.columns)
            if rest:
                positions(tiles * tile.columns, rest)

    def _weights(self, place: Any, lanes: int) -> list[Any]:
        """Weights int8 of each tap, in memory that stays near."""
        taps = self.spec.kernel[0] * self.spec.kernel[1]
        if self.spec.weight_bits == 8:
            return [(self.buffers["W"], place + t * lanes) for t in range(taps)]
        memory = scratch("int8", taps + taps % 2, lanes)
        four = tirx.Broadcast(tirx.const(4, "int8"), lanes)
        for i in range(-(-taps // 2)):
            both = load(self.buffers["W"], place + i * lanes, lanes=lanes)
            both = let(tirx.reinterpret(f"int8x{lanes}", both))
            store(memory, (both << four) >> four, 2 * i, 0, lanes=lanes)
            store(memory, both >> four, 2 * i + 1, 0, lanes=lanes)
        flat = view(memory, (taps + taps % 2) * lanes)
        return [(flat, t * lanes) for t in range(taps)]

    def _sums(
        self, source: Source, place: Any, columns: int, lanes: int, taps: Sequence[Any],
        starts: Sequence[Any],
    ) -> Any:  # fmt: skip
        """Sums int32 ``[columns * quads, 4]`` of neighbouring positions of a vector of channels."""
        quads = lanes // QUAD
        sums = scratch("int32", columns * quads, QUAD)
        for i in range(columns):
            for quad in range(quads):
                value = starts[min(quad, len(starts) - 1)]  # lanes behind the last are not stored
                store(sums, value, i * quads + quad, 0, lanes=QUAD)
        self._sum_up(source, place, columns, lanes, taps, sums)
        return sums

    def _finish(
        self, sums: Any, epilogue: Epilogue, position: Any, columns: int, lanes: int, channel: Any,
        target: Target,
    ) -> None:  # fmt: skip
        """Make output values of the sums, and store them."""
        quads = lanes // QUAD
        places = [target.place(position + i, channel) for i in range(columns)]
        values = []
        for i in range(columns):
            found = [load(sums, i * quads + q, 0, lanes=QUAD) for q in range(epilogue.quads)]
            values.append(epilogue.values(found, position + i))
        epilogue.store(values, target.buffer, places)

    def _sum_up(
        self, source: Source, place: Any, columns: int, lanes: int, taps: Sequence[Any], sums: Any
    ) -> None:  # fmt: skip
        spec, read = self.spec, {}
        order = list(np.ndindex(*spec.kernel))

        def codes(kh: int, pixel: int) -> Any:
            if (kh, pixel) not in read:
                at = place + kh * (spec.dilation[0] * source.pitch) + pixel * self._pixel
                read[kh, pixel] = load_codes(source.codes, at, lanes)
            return read[kh, pixel]

        for begin in range(0, len(order), self._most):
            some = order[begin : begin + self._most]
            factors = [let(load(b, at, lanes=lanes)) for b, at in taps[begin : begin + self._most]]
            for i in range(columns):
                pixels = [codes(kh, i * spec.strides[1] + kw * spec.dilation[1]) for kh, kw in some]
                self._add(pixels, factors, lanes, sums, i * (lanes // QUAD))

    def _add(
        self, codes: Sequence[Any], factors: Sequence[Any], lanes: int, sums: Any, register: int
    ) -> None:  # fmt: skip
        """Add products of a few taps in 16 bits, then to the sums; those of words at once."""
        if self.unit.instruction == "smlal":
            self._add_words(codes, factors, lanes, sums, register)
            return
        for high in range(lanes // EIGHT):
            total: Any = None
            for code, factor in zip(codes, factors, strict=True):
                both = [code, factor] if lanes == EIGHT else [half(code, high), half(factor, high)]
                product = neon("int16x8", "smull.v8i16", *both)
                total = product if total is None else let(total + product)
            total = let(total)
            for part in range(2):
                at = register + 2 * high + part
                wide = tirx.Cast("int32x4", half(total, part))
                store(sums, load(sums, at, 0, lanes=QUAD) + wide, at, 0, lanes=QUAD)

    def _add_words(
        self, codes: Sequence[Any], factors: Sequence[Any], lanes: int, sums: Any, register: int
    ) -> None:  # fmt: skip
        """Add products of codes of 16 bits to the sums."""
        for code, factor in zip(codes, factors, strict=True):
            for high in range(lanes // EIGHT):
                both = (code, factor) if lanes == EIGHT else (half(code, high), half(factor, high))
                for part, product in enumerate(word_products(*both)):
                    at = register + 2 * high + part
                    store(sums, load(sums, at, 0, lanes=QUAD) + product, at, 0, lanes=QUAD)
