"""Predicted mean and variance of a layer's output, kind by kind.

What is shared between kernels (see `emit.shared`) begins behind the calls of these functions.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tvm_probq.kernels.small.correction import Projection
from tvm_probq.kernels.small.emit import (
    Number,
    exact_blocks,
    let,
    load,
    number,
    scratch,
    shared,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, fence, fma, maximum, negate
from tvm_probq.kernels.small.linear import LaneSum, chained_matvec
from tvm_probq.kernels.small.moments import ChannelMoments, Moments
from tvm_probq.kernels.small.parameters import Parameters

Mixture = tuple[Any, Any]


def predict_tensor(
    constants: Sequence[Any], moments: ChannelMoments, z: Projection
) -> Callable[[], Mixture]:
    """What emits mixture mean and variance; `constants` are gram, linear, scalars and power.

    `z` may hold more than the gram matrix has rows: the first are read.
    """
    gram, linear, scalars, power = constants
    rank = number(int(gram.shape[0]))
    gram, linear = view(gram, rank, rank), view(linear, 2, rank)
    power, u = view(power, moments.channels), scratch("float32", rank)

    def keep(column: Any, lanes: int, value: Any) -> None:
        store(u, value + load(linear, 0, column, lanes=lanes), column, lanes=lanes)

    def emit() -> Mixture:
        chained_matvec(lambda i: load(z.values, i), rank, gram, rank, keep)
        between, centre, within = LaneSum(), LaneSum(), LaneSum()

        def direction(i: Any, lanes: int) -> None:
            value = let(load(z.values, i, lanes=lanes))
            between.add_product(i, value, load(u, i, lanes=lanes), lanes)
            centre.add_product(i, value, load(linear, 1, i, lanes=lanes), lanes)

        def block(c: Any, lanes: int) -> None:
            within.add_product(c, moments.both(c, lanes)[1], load(power, c, lanes=lanes), lanes)

        exact_blocks(rank, direction)
        exact_blocks(moments.channels, block)
        spread = maximum(between.total() + load(scalars, 0), 0.0)
        return let(centre.total() + load(scalars, 1)), let(spread + within.total())

    return emit


def predict_diagonal(constants: Sequence[Any], moments: ChannelMoments) -> Moments:
    """Mean and variance of each channel of a depthwise layer."""
    weights, power, bias = (view(constant, moments.channels) for constant in constants)

    def at(c: Any, lanes: int) -> Mixture:
        mean, variance = moments.both(c, lanes)
        centre = fma(load(weights, c, lanes=lanes), mean, load(bias, c, lanes=lanes))
        return let(centre), fence(load(power, c, lanes=lanes) * variance)

    return at


def predict_channels(constants: Sequence[Any], moments: ChannelMoments) -> tuple[Moments, Number]:
    """Mean and variance of each output channel of a dense layer, and how many there are."""
    weights, power, bias = constants
    inputs, outputs = moments.channels, number(int(bias.shape[0]))
    weights, power = (view(matrix, inputs, outputs) for matrix in (weights, power))
    bias = view(bias, outputs)
    values = [scratch("float32", inputs) for _ in range(2)]
    results = [scratch("float32", outputs) for _ in range(2)]

    def keep_inputs(c: Any, lanes: int) -> None:
        for buffer, value in zip(values, moments.both(c, lanes), strict=True):
            store(buffer, value, c, lanes=lanes)

    def keep_centre(c: Any, lanes: int, value: Any) -> None:
        store(results[0], value + load(bias, c, lanes=lanes), c, lanes=lanes)

    def keep_variance(c: Any, lanes: int, value: Any) -> None:
        store(results[1], value, c, lanes=lanes)

    with shared("channels"):
        wide_blocks(inputs, keep_inputs)
        chained_matvec(lambda i: load(values[0], i), inputs, weights, outputs, keep_centre)
        chained_matvec(lambda i: load(values[1], i), inputs, power, outputs, keep_variance)

    def at(c: Any, lanes: int) -> Mixture:
        return let(load(results[0], c, lanes=lanes)), let(load(results[1], c, lanes=lanes))

    return at, outputs


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
