"""Predicted mean and variance of a layer's output, kind by kind."""

from collections.abc import Sequence
from typing import Any

from tvm_probq.kernels.small.correction import Projection
from tvm_probq.kernels.small.emit import (
    exact_blocks,
    let,
    load,
    scratch,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, fence, fma, maximum, negate
from tvm_probq.kernels.small.linear import LaneSum, chained_matvec, ordered_dot
from tvm_probq.kernels.small.moments import ChannelMoments, Moments
from tvm_probq.kernels.small.parameters import Parameters

Mixture = tuple[Any, Any]


def predict_tensor(constants: Sequence[Any], moments: ChannelMoments, z: Projection) -> Mixture:
    """Mixture mean and variance; `constants` are gram, linear, scalars and power.

    `z` may hold more than the gram matrix has rows: the first are read.
    """
    gram, linear, scalars, power = constants
    rank = int(gram.shape[0])
    u = scratch("float32", rank)

    def keep(column: Any, lanes: int, value: Any) -> None:
        store(u, value + load(linear, 0, column, lanes=lanes), column, lanes=lanes)

    chained_matvec(z.at, rank, gram, keep)
    between = ordered_dot(z.at, lambda i: load(u, i), rank, load(scalars, 0))
    centre = ordered_dot(z.at, lambda i: load(linear, 1, i), rank, load(scalars, 1))
    within = LaneSum()

    def block(c: Any, lanes: int) -> None:
        within.add_product(c, moments.both(c, lanes)[1], load(power, c, lanes=lanes), lanes)

    exact_blocks(moments.channels, block)
    return centre, let(maximum(between, 0.0) + within.total())


def predict_diagonal(constants: Sequence[Any], moments: ChannelMoments) -> Moments:
    """Mean and variance of each channel of a depthwise layer."""
    weights, power, bias = constants

    def at(c: Any, lanes: int) -> Mixture:
        mean, variance = moments.both(c, lanes)
        centre = fma(load(weights, c, lanes=lanes), mean, load(bias, c, lanes=lanes))
        return let(centre), fence(load(power, c, lanes=lanes) * variance)

    return at


def predict_channels(constants: Sequence[Any], moments: ChannelMoments) -> Moments:
    """Mean and variance of each output channel of a dense layer."""
    weights, power, bias = constants
    inputs, outputs = (int(extent) for extent in weights.shape)
    values = [scratch("float32", inputs) for _ in range(2)]
    results = [scratch("float32", outputs) for _ in range(2)]

    def keep_inputs(c: Any, lanes: int) -> None:
        for buffer, value in zip(values, moments.both(c, lanes), strict=True):
            store(buffer, value, c, lanes=lanes)

    def keep_centre(c: Any, lanes: int, value: Any) -> None:
        store(results[0], value + load(bias, c, lanes=lanes), c, lanes=lanes)

    def keep_variance(c: Any, lanes: int, value: Any) -> None:
        store(results[1], value, c, lanes=lanes)

    wide_blocks(inputs, keep_inputs)
    chained_matvec(lambda i: load(values[0], i), inputs, weights, keep_centre)
    chained_matvec(lambda i: load(values[1], i), inputs, power, keep_variance)

    def at(c: Any, lanes: int) -> Mixture:
        return let(load(results[0], c, lanes=lanes)), let(load(results[1], c, lanes=lanes))

    return at


def predict_iid(table: Any, patches: Any, n: Any, p: Parameters, count: int) -> Mixture:
    """Mixture mean and variance from patch sums ``[N, 3, groups]``."""
    groups = int(table.shape[1])
    centres, squares = LaneSum(), LaneSum()

    def block(c: Any, lanes: int) -> None:
        total = const(count, lanes)
        s1, s2, s11 = (let(load(patches, n, row, c, lanes=lanes) / total) for row in range(3))
        scale = p.scale(c, lanes)
        area = let(scale * scale)
        mu, bias, var, mu2, mu_bias, bias2 = (load(table, i, c, lanes=lanes) for i in range(6))
        position = let(maximum(fma(negate(s1), s1, s11), 0.0) * area)
        first = let(s1 * scale)
        centres.add(c, fma(mu, first, bias), lanes)
        square = fma(fma(mu2, first, mu_bias), first, bias2)
        squares.add(c, fma(mu2, position, fma(var, s2 * area, square)), lanes)

    exact_blocks(groups, block)
    centre = let(centres.total() / const(groups))
    variance = fma(negate(centre), centre, squares.total() / const(groups))
    return centre, let(maximum(variance, 0.0))
