"""Multipliers of weights in groups: where a kernel finds them, and how it multiplies codes.

They are the last bytes of the flat argument W: blocks of channels, runs of inputs, lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import s_tir, te, tirx

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.amx_shape import Chunks
from tvm_probq.kernels.x86.geometry import LANES, VectorUnit, geometry

REPEATED = "multipliers"  # the block


def multiplier(spec: LayerSpec, weights: te.Tensor, blocks: int, at: tuple[Any, Any, Any]) -> Any:
    """The multiplier, uint8, `at` a block of the layer's `blocks`, a run and a lane."""
    block, run, lane = at
    first = int(weights.shape[0]) - blocks * spec.runs * LANES
    return weights[first + (block * spec.runs + run) * LANES + lane]


def repeated_multipliers(
    spec: LayerSpec, unit: VectorUnit, shape: tuple[int, ...], weights: te.Tensor
) -> Callable[..., Any]:
    """Multipliers of codes by block, number of the register in it, lane and byte, all int8.

    They come from a block `REPEATED`, where those of a register of codes lie side by side.

    Parameters
    ----------
    spec, unit
        The layer and its instruction set.
    shape : tuple of int
        `tvm_probq.kernels.x86.unpacking.byte_shape`.
    weights : te.Tensor
        The argument W.
    """

    def value(o: Any, run: Any, lane: Any, _: Any) -> Any:
        return multiplier(spec, weights, shape[0], (o, run, lane)).astype("int8")

    stage = te.compute((shape[0], spec.runs, LANES, unit.step), value, name=REPEATED)

    def times(o: Any, register: Any, lane: Any, ki: Any) -> Any:
        return stage[o, _run(spec, unit, shape, register, ki), lane, ki]

    return times


def _run(spec: LayerSpec, unit: VectorUnit, shape: tuple[int, ...], register: Any, ki: Any) -> Any:
    """The run of inputs that byte `ki` of a lane of a register belongs to."""
    steps = geometry(spec, unit).reduction[2]
    place = register % math.prod(shape[3:-2])  # within a kernel row, or one tap of it
    if unit.tiles:
        chunks = Chunks.of(steps)
        start = place // chunks.length * chunks.length
        if chunks.shared:
            start = tirx.min(start, chunks.steps - chunks.length)
        place = start + place % chunks.length
    if spec.group_inputs % unit.step == 0:  # all bytes of a lane alike
        return place % (spec.group_inputs // unit.step) // (spec.weight_group // unit.step)
    return (place * unit.step + ki) % spec.group_inputs // spec.weight_group


def place_multipliers(sch: s_tir.Schedule, loop: Any) -> None:
    """Repeat multipliers in every iteration of `loop`."""
    block = sch.get_sblock(REPEATED)
    sch.compute_at(block, loop, preserve_unit_loops=True)
    sch.vectorize(sch.get_loops(block)[-1])
