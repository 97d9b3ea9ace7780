"""Weights of fewer than 8 bits on ARM: registers out of planes, a few or those of a whole block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.packing import block_bytes, chunk_bytes
from tvm_probq.kernels.arm.registers import neon
from tvm_probq.kernels.arm.unit import VECTOR
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


def load_weights(buffer: Any, place: Any, count: int, bits: int) -> list[Any]:
    """`count` registers int8 of weights; those of fewer than 8 bits come in groups from planes."""
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
    return scratch("int8", block_bytes(replace(spec, weight_bits=BYTE), layout, quads))


def unpack(weights: Weights, layout: View, quads: int, memory: Any) -> Weights:
    """Emit code that unpacks a block's weights into `memory`."""
    packed, spec = weights.spec, replace(weights.spec, weight_bits=BYTE)
    chunks = layout.chunks
    count = sum(length == chunks[0][1] for _, length in chunks)

    def chunk(target: Any, source: Any, length: int) -> None:
        size = chunk_bytes(spec, length, quads)
        registers = load_weights(weights.buffer, source, size // VECTOR, packed.weight_bits)
        for i, register in enumerate(registers):
            store(memory, register, target + i * VECTOR, lanes=VECTOR)

    sizes = [[chunk_bytes(s, length, quads) for s in (spec, packed)] for _, length in chunks]
    taps = [sum(size[i] for size in sizes) for i in range(2)]
    with loop(layout.steps) as tap:
        target, source = tap * taps[0], weights.first + tap * taps[1]
        with loop(count) as c:
            chunk(target + c * sizes[0][0], source + c * sizes[0][1], chunks[0][1])
        for i in range(count, len(chunks)):
            before = [sum(size[k] for size in sizes[:i]) for k in range(2)]
            chunk(target + before[0], source + before[1], chunks[i][1])
    return Weights(memory, 0, spec)
