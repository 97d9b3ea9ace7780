"""Vectors of 128 bits and the instructions of ARM on them, as expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.tirx import Shuffle

from tvm_probq.kernels.small.emit import lanes_of, let, load, splat

SIGN = 128


def neon(kind: str, name: str, *operands: Any) -> Any:
    """An instruction of NEON by its name in LLVM."""
    return tirx.call_llvm_pure_intrin(kind, f"llvm.aarch64.neon.{name}", *operands)


def picked(value: Any, *lanes: int) -> Any:
    """Lanes of a vector, as often as they are named."""
    # TVM wants at least as many lanes as it gives.
    return Shuffle([value] * -(-len(lanes) // lanes_of(value)), list(lanes))


def joined(parts: Sequence[Any]) -> Any:
    """Vectors one behind the other."""
    found = list(parts)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [let(Shuffle([a, b], list(range(lanes_of(a) + lanes_of(b))))) for a, b in pairs]
    return found[0]


def half(value: Any, high: int) -> Any:
    """The lower or the upper half of a vector."""
    lanes = lanes_of(value) // 2
    return picked(value, *range(high * lanes, high * lanes + lanes))


def as_words(value: Any) -> Any:
    """Bytes as int32 lanes."""
    words = lanes_of(value) // 4
    return tirx.reinterpret(f"int32x{words}" if words > 1 else "int32", value)


def flipped(value: Any) -> Any:
    """Unsigned codes less 128, as signed ones."""
    lanes = lanes_of(value)
    signs = splat(tirx.const(SIGN, "uint8"), lanes)
    return tirx.reinterpret(f"int8x{lanes}" if lanes > 1 else "int8", value ^ signs)


def signed(value: Any) -> Any:
    """Codes as products take them: bytes less 128, words as they are, for none is negative."""
    return flipped(value) if str(value.ty.dtype).startswith("uint8") else value


def load_codes(buffer: Any, place: Any, lanes: int) -> Any:
    """Codes of a buffer of bytes, signed or not, or of words, as products take them."""
    return let(signed(load(buffer, place, lanes=lanes)))
