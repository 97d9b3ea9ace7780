"""Sums of a run of inputs, multiplied once: fully connected layers with weights in groups.

Weights are read once there, so their codes are unpacked on the way to the products as without
groups, and multipliers meet a register of sums in place of every register of codes.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.geometry import LANES, Geometry, VectorUnit
from tvm_probq.kernels.x86.multipliers import multiplier
from tvm_probq.kernels.x86.unpacking import Weights, scaled_bits

RUN = "run"  # the block of a run's sums


def run_total(
    spec: LayerSpec, unit: VectorUnit, tile: Tile, view: Geometry, tensors: tuple[te.Tensor, Any]
) -> te.Tensor:
    """The exact integer sums, ``[N, 1, blocks, rows, columns, 16]``.

    Parameters
    ----------
    spec, unit, tile, view
        The layer, one of `tvm_probq.kernels.x86.unpacking.adds_runs`, and how it is computed.
    tensors : tuple
        The input and the argument W.
    """
    source, argument = tensors
    weights, steps = Weights.of(spec, unit, tile, argument), spec.weight_group // unit.step
    extra = tirx.const(scaled_bits(spec, unit, tile), "int32")
    ks, ki = te.reduce_axis((0, steps), "ks"), te.reduce_axis((0, unit.step), "ki")
    run = te.reduce_axis((0, spec.runs), "run")
    shape = (spec.batch, 1, weights.shape[0], view.rows, view.columns, LANES)

    def products(n: Any, _: Any, o: Any, r: Any, h: Any, w: Any, lane: Any) -> Any:
        step = r * steps + ks
        code = source[n, h, w * spec.in_channels + step * unit.step + ki].astype("int32")
        return te.sum(code * weights.at(o, 0, 0, step, lane, ki), [ks, ki])

    sums = te.compute((*shape[:3], spec.runs, *shape[3:]), products, name=RUN)

    def total(n: Any, g: Any, o: Any, h: Any, w: Any, lane: Any) -> Any:
        times = multiplier(spec, argument, weights.shape[0], (o, run, lane)).astype("int32")
        return te.sum((sums[n, g, o, run, h, w, lane] >> extra) * times, run)

    return te.compute(shape, total, name="conv")
