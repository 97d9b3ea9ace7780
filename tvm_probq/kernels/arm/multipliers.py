"""Multipliers of weights in groups on ARM: where they lie, and as registers beside those of codes.

Behind the weights of a block of channels there is a byte for each run of inputs and channel.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.registers import picked
from tvm_probq.kernels.arm.unit import QUAD, VECTOR, ArmUnit
from tvm_probq.kernels.small.emit import let, load, splat
from tvm_probq.kernels.spec import LayerSpec


def channels_together(unit: ArmUnit, length: int) -> int:
    """Channels whose weights share a register of a chunk of `length` codes."""
    return {"sdot": QUAD, "smmla": 2}.get(unit.instruction, VECTOR // length)


def multiplier_bytes(spec: LayerSpec, quads: int) -> int:
    """Bytes of the multipliers of a block of channels."""
    return spec.runs * quads * QUAD


def load_multipliers(buffer: Any, place: Any, together: int, quads: int) -> list[Any]:
    """Registers int8 that registers of a chunk's weights are multiplied by, in turn.

    Parameters
    ----------
    buffer, place
        Where the multipliers of a run lie.
    together : int
        See `channels_together`.
    quads : int
        Vectors of four channels of the block.
    """
    found = []
    for first in range(0, quads * QUAD, together):
        value = tirx.reinterpret(
            f"int8x{together}" if together > 1 else "int8",
            load(buffer, place + first, lanes=together),
        )
        if together == 1:
            found.append(let(splat(value, VECTOR)))
            continue
        lanes = [lane * together // VECTOR for lane in range(VECTOR)]
        found.append(let(picked(let(value), *lanes)))
    return found
