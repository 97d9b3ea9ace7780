"""Storing output values: codes become bytes sixteen at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.registers import joined, neon, picked
from tvm_probq.kernels.arm.unit import QUAD
from tvm_probq.kernels.small.emit import lanes_of, let, splat, store

TOGETHER = 4  # vectors of four values that become a register of codes
Values = Sequence[Sequence[Any]]  # of several positions, a vector for each four channels


def store_values(values: Values, real: int, output: Any, places: Sequence[Any]) -> None:
    """Store float32 or int32 ``[4]``.

    Parameters
    ----------
    values : sequence of sequences
        Vectors of each position, of a block of channels.
    real : int
        Channels of the block that are stored.
    output : buffer ``[elements]``
        Where to.
    places : sequence
        For each position, where its block lies, in elements.
    """
    for found, place in zip(values, places, strict=True):
        for quad, value in enumerate(found):
            _store_lanes(value, 0, min(QUAD, real - quad * QUAD), output, place + quad * QUAD)


def store_codes(
    values: Values, bounds: Sequence[Any], real: int, output: Any, places: Sequence[Any]
) -> None:
    """Store int32 ``[4]`` as codes uint8, within `bounds` (the lowest and the highest) if given.

    All else as for `store_values`.
    """
    for vectors in _together(values):
        words = [let(neon("int16x4", "sqxtn.v4i16", v)) for *_, v in vectors]
        codes = _bounded(_narrowed(words), bounds)
        lane = 0
        for position, part in groupby(vectors, key=lambda vector: vector[0]):
            quads = [quad for _, quad, _ in part]
            first = quads[0] * QUAD
            count = min(len(quads) * QUAD, real - first)
            _store_lanes(codes, lane, count, output, places[position] + first)
            lane += len(quads) * QUAD


def store_words(
    values: Values, bounds: Sequence[Any], real: int, output: Any, places: Sequence[Any]
) -> None:
    """Store int32 ``[4]`` as codes int16; all else as for `store_codes`."""
    for found, place in zip(values, places, strict=True):
        for quad, value in enumerate(found):
            words = let(neon("int16x4", "sqxtn.v4i16", value))
            if bounds:
                lower, upper = (splat(bound, QUAD) for bound in bounds)
                words = let(tirx.min(let(tirx.max(words, lower)), upper))
            _store_lanes(words, 0, min(QUAD, real - quad * QUAD), output, place + quad * QUAD)


def _together(values: Values) -> list[list[tuple[int, int, Any]]]:
    """Position, number and value of the vectors that become codes together.

    Vectors of several positions only where those of one do not fill more than half a register.
    """
    rows = [[(i, quad, v) for quad, v in enumerate(found)] for i, found in enumerate(values)]
    if len(rows[0]) <= TOGETHER // 2:
        rows = [[vector for row in rows for vector in row]]
    return [row[i : i + TOGETHER] for row in rows for i in range(0, len(row), TOGETHER)]


def _narrowed(words: Sequence[Any]) -> Any:
    """uint8 of two or four vectors of four int16, the last one again if there is room."""
    wanted = TOGETHER // 2 if len(words) <= TOGETHER // 2 else TOGETHER
    words = [*words, *[words[-1]] * (wanted - len(words))]
    eights = [joined(words[i : i + 2]) for i in range(0, wanted, 2)]
    narrow = [neon("int8x8", "sqxtun.v8i8", eight) for eight in eights]
    return joined([let(tirx.reinterpret("uint8x8", part)) for part in narrow])


def _bounded(codes: Any, bounds: Sequence[Any]) -> Any:
    if not bounds:
        return codes
    lower, upper = bounds
    lanes = lanes_of(codes)
    if not isinstance(lower, tirx.IntImm):  # a constant one is 0
        codes = let(tirx.max(codes, splat(lower, lanes)))
    return let(tirx.min(codes, splat(upper, lanes)))


def _store_lanes(value: Any, lane: int, count: int, output: Any, place: Any) -> None:
    """Store `count` lanes from `lane` on."""
    for lanes in widths(count):
        whole = lanes == lanes_of(value)
        part = value if whole else picked(value, *range(lane, lane + lanes))
        store(output, part, place, lanes=lanes)
        lane, place = lane + lanes, place + lanes


def widths(count: int) -> list[int]:
    """Lanes of vectors that cover `count` elements, each once."""
    found = [16] * (count // 16)
    found += [lanes for lanes in (8, 4, 2, 1) if count % 16 & lanes]
    return found
