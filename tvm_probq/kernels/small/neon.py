"""From reals to codes on ARM: one instruction rounds, and others saturate while they narrow.

Source: Arm Architecture Reference Manual, FCVTNS, SQXTN, SQXTUN.
"""

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.tirx import Shuffle

from tvm_probq.kernels.small.emit import lanes_of, let

QUAD, EIGHT = 4, 8


def rounded(value: Any) -> Any:
    """Float32 to the nearest int32, half to even; what no int32 holds saturates, NaN is 0."""
    lanes = lanes_of(value)
    if lanes < QUAD:
        kind = f"int32x{lanes}" if lanes > 1 else "int32"
        name = f"fcvtns.v{lanes}i32.v{lanes}f32" if lanes > 1 else "fcvtns.i32.f32"
        return _neon(kind, name, value)
    return joined([let(_round_quad(part)) for part in _parts(value, QUAD)])


def codes_of(value: Any) -> Any:
    """Float32 ``[L]`` to the nearest of 0 to 255, uint8; `L` is a multiple of 8, NaN gives 0."""
    words = [let(_narrow(_round_quad(part))) for part in _parts(let(value), QUAD)]
    eights = [joined(words[i : i + 2]) for i in range(0, len(words), 2)]
    narrow = [let(_neon("int8x8", "sqxtun.v8i8", eight)) for eight in eights]
    return joined([let(tirx.reinterpret("uint8x8", part)) for part in narrow])


def joined(parts: Sequence[Any]) -> Any:
    """Vectors one behind the other; their number is a power of two."""
    found = list(parts)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [let(Shuffle([a, b], list(range(2 * lanes_of(a))))) for a, b in pairs]
    return found[0]


def _round_quad(value: Any) -> Any:
    return _neon("int32x4", "fcvtns.v4i32.v4f32", value)


def _narrow(value: Any) -> Any:
    return _neon("int16x4", "sqxtn.v4i16", value)


def _parts(value: Any, lanes: int) -> list[Any]:
    value = let(value)
    if lanes_of(value) == lanes:
        return [value]
    starts = range(0, lanes_of(value), lanes)
    return [let(Shuffle([value], list(range(start, start + lanes)))) for start in starts]


def _neon(kind: str, name: str, *operands: Any) -> Any:
    return tirx.call_llvm_pure_intrin(kind, f"llvm.aarch64.neon.{name}", *operands)
