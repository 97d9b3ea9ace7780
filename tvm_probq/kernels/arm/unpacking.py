"""Weights of fewer than 8 bits on ARM: registers out of planes, a few or those of a whole block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.multipliers import channels_together, load_multipliers
from tvm_probq.kernels.arm.packing import block_bytes, chunk_bytes, tap_bytes
from tvm_probq.kernels.arm.registers import neon
from tvm_probq.kernels.arm.unit import QUAD, VECTOR, ArmUnit
from tvm_probq.kernels.arm.view import View
from tvm_probq.kernels.planes import GROUPS, HALF, PART, planes_of
from tvm_probq.kernels.small.emit import let, load, loop, scratch, splat, store
from tvm_probq.kernels.spec import LayerSpec

BYTE = 8


@dataclass(frozen=True)
class Weights:
    """Where the weights of a block of channels lie.

    Attributes
    ----------
    buffer : buffer ``[bytes]``
        The kernel's argument, or scratch that they were unpacked into.
    first : Any
        Where they begin.
    spec : LayerSpec
        The layer; of 8 bits where they were unpacked.
    """

    buffer: Any
    first: Any
    spec: LayerSpec

    def multipliers(
        self, layout: View, unit: ArmUnit, quads: int, chunk: tuple[Any, int]
    ) -> list[Any]:
        """What registers of a chunk, its start and length, are multiplied by in turn."""
        spec, (start, length) = self.spec, chunk
        if not spec.weight_group:
            return []
        behind = self.first + layout.steps * tap_bytes(spec, layout, quads)
        place = behind + start // spec.weight_group * (quads * QUAD)
        return load_multipliers(self.buffer, place, channels_together(unit, length), quads)


def load_weights(
    buffer: Any, place: Any, count: int, bits: int, multipliers: Sequence[Any] = ()
) -> list[Any]:
    """`count` registers int8 of weights; those of fewer than 8 bits come in groups from planes.

    They are multiplied by `multipliers` in turn, if there are any.
    """
    if multipliers:
        codes = load_weights(buffer, place, count, bits)
        return [let(c * multipliers[i % len(multipliers)]) for i, c in enumerate(codes)]
    if bits == BYTE:
        return [load(buffer, place + VECTOR * i, lanes=VECTOR) for i in range(count)]
    found: list[Any] = []
    for start in range(0, count, GROUPS[bits]):
        at = place + start // GROUPS[bits] * planes_of(bits) * VECTOR
        planes = [
            let(tirx.reinterpret("int8x16", load(buffer, at + VECTOR * i, lanes=VECTOR)))
            for i in range(planes_of(bits))
        ]
        some = range(min(GROUPS[bits], count - start))
        found += [let(_register(planes, bits, number)) for number in some]
    return found


def _register(planes: list[Any], bits: int, number: int) -> Any:
    """A register of codes; shifts to the left and back give them their signs."""
    if bits in (HALF, PART):
        return _shifted(planes[0], BYTE - bits * (number + 1), BYTE - bits)
    if number < len(planes):
        return _shifted(planes[number], 0, PART)
    # Each insertion keeps what lies below.
    found = planes[2] << _lanes(PART)
    for plane, left in ((planes[1], HALF), (planes[0], BYTE - PART)):
        found = neon("int8x16", "vsli.v16i8", let(found), plane, tirx.const(left, "int32"))
    return let(found) >> _lanes(PART)


def _shifted(value: Any, left: int, right: int) -> Any:
    return (value << _lanes(left) if left else value) >> _lanes(right)


def _lanes(value: int) -> Any:
    return splat(tirx.const(value, "int8"), VECTOR)


def room_for(spec: LayerSpec, layout: View, quads: int) -> Any:
    """Scratch for the weights of a block of channels, a byte each."""
    return scratch("int8", block_bytes(_of_bytes(spec), layout, quads))


def _of_bytes(spec: LayerSpec) -> LayerSpec:
    return replace(spec, weight_bits=BYTE, weight_group=0)


def unpack(weights: Weights, layout: View, unit: ArmUnit, quads: int, memory: Any) -> Weights:
    """Emit code that unpacks a block's weights into `memory`."""
    packed, spec = weights.spec, _of_bytes(weights.spec)
    chunks = layout.chunks
    count = sum(length == chunks[0][1] for _, length in chunks)

    def chunk(target: Any, source: Any, start: Any, length: int) -> None:
        size, bits = chunk_bytes(spec, length, quads), packed.weight_bits
        numbers = weights.multipliers(layout, unit, quads, (start, length))
        registers = load_weights(weights.buffer, source, size // VECTOR, bits, numbers)
        for i, register in enumerate(registers):
            store(memory, register, target + i * VECTOR, lanes=VECTOR)

    sizes = [[chunk_bytes(s, length, quads) for s in (spec, packed)] for _, length in chunks]
    taps = [sum(size[i] for size in sizes) for i in range(2)]
    with loop(layout.steps) as tap:
        target, source = tap * taps[0], weights.first + tap * taps[1]
        with loop(count) as c:
            place = (target + c * sizes[0][0], source + c * sizes[0][1])
            chunk(*place, c * chunks[0][1], chunks[0][1])
        for i in range(count, len(chunks)):
            before = [sum(size[k] for size in sizes[:i]) for k in range(2)]
            chunk(target + before[0], source + before[1], *chunks[i])
    return Weights(memory, 0, spec)
