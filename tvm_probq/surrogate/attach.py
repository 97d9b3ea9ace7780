"""Emit the prediction of one layer's output parameters into a graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tvm_probq import ops
from tvm_probq.calibration.fit import ChosenFit, choose_fit
from tvm_probq.calibration.marked import Marked
from tvm_probq.calibration.observers import static_range
from tvm_probq.calibration.record import TensorRecord
from tvm_probq.ir.expressions import constant, ints, shape_of
from tvm_probq.ir.layers import Layer
from tvm_probq.ir.rewrite import Rewriter
from tvm_probq.plan.plan import LayerPlan, Plan
from tvm_probq.simulator.arithmetic import F32
from tvm_probq.simulator.numerics import make_qparams
from tvm_probq.surrogate.constants import (
    iid_table,
    moments_channel,
    moments_diagonal,
    moments_tensor,
)
from tvm_probq.surrogate.correction import predicted_correction
from tvm_probq.surrogate.directions import correction_directions, surrogate_directions
from tvm_probq.surrogate.levels import largest_step, levels_of
from tvm_probq.surrogate.rounding import round_layer
from tvm_probq.surrogate.sampling import (
    MAX_SAMPLED_POSITIONS,
    Sampling,
    patch_count,
    patch_gamma,
    sampling,
)

Pair = tuple[Any, Any]
FINE_POSITIONS = 4096


def sums_sampling(codes: Any, plan: Plan) -> Sampling:
    """Sampling of the sums of a tensor of codes: finer where they correct coarse weights.

    The correction of coarse weights is the larger for it: at 6 bits 0.3 dB of the logits' signal on
    MobileNet v1 lay between 256 and 1024 positions.
    """
    fine = any(layer.corrects_finely for layer in (plan.default, *plan.layers.values()))
    return sampling(shape_of(codes), FINE_POSITIONS if fine else MAX_SAMPLED_POSITIONS)


def sums_of(rewriter: Rewriter, codes: Any, plan: Plan) -> Any:
    """Emit the sums of a tensor of codes."""
    return rewriter.emit(ops.sums(codes, strides=sums_sampling(codes, plan).strides), name="sums")


def sums_count(rewriter: Rewriter, sums: Any) -> int:
    """Positions that emitted sums were taken over."""
    call = rewriter.value(sums)
    down, right = ints(call.attrs["strides"])
    return Sampling((down, right)).count(shape_of(call.args[0]))


def static_qparams(tensor: TensorRecord, plan: LayerPlan, qmax: int, batch: int) -> F32:
    """Constant parameters ``[N, 3, G]`` from the plan's observer or the channels' extremes."""
    if uses_channels(tensor, plan):
        low, high = (np.tile(row.astype(np.float32), (batch, 1)) for row in tensor.channels[2:])
        return make_qparams(-low, high, qmax)
    ends = [
        np.full((batch, 1), v, np.float32)
        for v in static_range(tensor.histogram, plan.observer, qmax.bit_length())
    ]
    return make_qparams(ends[0], ends[1], qmax)


def uses_channels(tensor: TensorRecord, plan: LayerPlan) -> bool:
    """Whether each channel gets its own range: asked for, and only depthwise layers read it."""
    return plan.per_channel and bool(tensor.channels.size)


def attach_correction(
    rewriter: Rewriter, layer: Layer, tensor: TensorRecord, plan: LayerPlan, x: Pair, sums: Any
) -> Any:
    """Emit the shift ``[N, OC]`` that undoes the rounding of the weights for this input.

    None for weights that rounding does not change.
    """
    rounded = round_layer(layer.weights, tensor, plan)
    directions = correction_directions(tensor.basis, fine=plan.corrects_finely)
    found = predicted_correction(layer.weights, rounded.real(), layer.geometry, directions)
    if found is None:
        return None
    constants = [found.matrix, found.scale, found.basis]
    given = [None if c is None else constant(c) for c in constants]
    call = ops.correction(sums, x[1], *given, count=sums_count(rewriter, sums))
    return rewriter.emit(call, name="shift")


def attach_surrogate(
    rewriter: Rewriter, layer: Layer, tensor: TensorRecord, plan: LayerPlan, x: Pair,
    sums: Callable[[], Any], residual: Pair | None, residual_sums: Any, levels: list[float],
) -> Any:  # fmt: skip
    """Emit the prediction of the layer's output parameters ``[N, 3, 1]``.

    `levels` are the largest codes that they may have, ascending.
    """
    if uses_channels(tensor, plan):
        return _channel_surrogate(rewriter, layer, tensor, x, sums, levels)
    fit = choose_fit(tensor, plan)
    kind, stat, constants, count = _statistics(rewriter, layer, tensor, fit.kind, x, sums)
    extra = None if residual is None else (residual_sums, residual[1])
    call = ops.surrogate(
        stat, x[1], [constant(c) for c in constants], *_fitted(fit, tensor, plan, levels),
        extra, kind=kind, count=count,
        residual_count=1 if residual is None else sums_count(rewriter, residual_sums),
        activation=layer.activation,
    )  # fmt: skip
    return rewriter.emit(call, name="qparams")


def _channel_surrogate(
    rewriter: Rewriter, layer: Layer, tensor: TensorRecord, x: Pair, sums: Callable[[], Any],
    levels: list[float],
) -> Any:  # fmt: skip
    """Emit parameters ``[N, 3, C]``: a channel's interval is the widest that calibration saw."""
    g = layer.geometry
    build = moments_diagonal if g.depthwise else moments_channel
    c = build(layer.weights, layer.bias, g)
    stat = sums()
    call = ops.surrogate(
        stat, x[1], [constant(v) for v in (c.weights, c.power, c.bias)],
        constant(tensor.channels[:2], "float32"), constant([0.0, 0.0], "float32"),
        constant(levels, "float32"),
        kind="moments_diagonal" if g.depthwise else "moments_channel",
        count=sums_count(rewriter, stat), activation=layer.activation,
    )  # fmt: skip
    return rewriter.emit(call, name="qparams")


def _statistics(
    rewriter: Rewriter, layer: Layer, tensor: TensorRecord, kind: str, x: Pair,
    sums: Callable[[], Any],
) -> tuple[str, Any, list[Any], int]:  # fmt: skip
    """Operator kind, statistic, constants and number of positions of a surrogate."""
    g = layer.geometry
    if kind == "iid":
        gamma = patch_gamma(g)
        stat = rewriter.emit(
            ops.patch_sums(
                x[0], x[1], kernel=g.kernel, strides=g.strides, pads=g.pads,
                dilation=g.dilation, groups=g.groups, gamma=gamma,
            ),
            name="patches",
        )  # fmt: skip
        table = iid_table(layer.weights, layer.bias, g).table
        return "iid", stat, [table], patch_count(g, gamma)
    stat = sums()
    count = sums_count(rewriter, stat)
    if g.depthwise:
        d = moments_diagonal(layer.weights, layer.bias, g)
        return "moments_diagonal", stat, [d.weights, d.power, d.bias], count
    c = moments_tensor(layer.weights, layer.bias, g, surrogate_directions(tensor.basis))
    constants = [] if c.basis is None else [c.basis]
    return "moments_tensor", stat, [*constants, c.gram, c.linear, c.scalars, c.power], count


def pair_surrogate(
    rewriter: Rewriter, marked: Marked, tensor: TensorRecord, plan: LayerPlan, pairs: list[Pair],
    sums: list[Any],
) -> Any:  # fmt: skip
    """Emit the prediction for an operator on two stored tensors from the sums of both."""
    fit = choose_fit(tensor, replace(plan, surrogate="auto"))
    counts = [sums_count(rewriter, s) for s in sums]
    length = [constant([shape_of(pairs[0][0])[-1]], "float32")] if marked.kind == "matmul" else []
    call = ops.surrogate(
        sums[0], pairs[0][1], length, *_fitted(fit, tensor, plan, levels_of(plan)),
        (sums[1], pairs[1][1]),
        kind=marked.kind, count=counts[0], residual_count=counts[1], activation=marked.activation,
    )  # fmt: skip
    return rewriter.emit(call, name="qparams")


def _fitted(
    fit: ChosenFit, tensor: TensorRecord, plan: LayerPlan, levels: list[float]
) -> tuple[Any, Any, Any]:
    """The constants `spread`, `rule` and `levels` of a surrogate."""
    return (
        constant([[fit.alpha], [fit.beta]], "float32"),
        constant([tensor.correlation, largest_step(fit.width, plan)], "float32"),
        constant(levels, "float32"),
    )
