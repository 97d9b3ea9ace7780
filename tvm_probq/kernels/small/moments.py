"""Mean and variance per channel from integer sums, and of the whole tensor from those."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm_probq.kernels.small.emit import exact_blocks, let, load, number, splat, view
from tvm_probq.kernels.small.floats import (
    const,
    convert,
    fence,
    fma,
    maximum,
    negate,
    reciprocal,
    sqrt,
)
from tvm_probq.kernels.small.linear import LaneSum
from tvm_probq.kernels.small.parameters import Parameters

Moments = Callable[[Any, int], tuple[Any, Any]]


@dataclass(frozen=True)
class ChannelMoments:
    """Real mean and variance of `lanes` channels, from sums ``[N, 2, C]``: `moments_of`.

    Attributes
    ----------
    sums : Any
        The int32 buffer.
    at : Any
        The sample in that buffer.
    qparams : Parameters
        Of the tensor summed.
    count : int
        Positions summed.
    channels : int
        Number of channels.
    """

    sums: Any
    at: Any
    qparams: Parameters
    count: int
    channels: int

    def for_shared(self) -> "ChannelMoments":
        """The same, for code in a `shared` frame, which this comes before."""
        channels = number(self.channels)
        sums = view(self.sums, self.sums.shape[0], 2, channels)
        qparams = self.qparams
        if qparams.per_channel:
            rows = view(qparams.buffer, qparams.buffer.shape[0], 3, channels)
            qparams = Parameters(rows, qparams.sample)
        return ChannelMoments(sums, self.at, qparams, number(self.count), channels)

    def mean(self, c: Any, lanes: int) -> Any:
        """Means, fenced."""
        zero = self.qparams.zero(c, lanes)
        return fence((self._code(0, c, lanes) - zero) * self.qparams.scale(c, lanes))

    def both(self, c: Any, lanes: int) -> tuple[Any, Any]:
        """Means and variances, fenced."""
        code = self._code(0, c, lanes)
        scale = self.qparams.scale(c, lanes)
        spread = maximum(fma(negate(code), code, self._code(1, c, lanes)), 0.0)
        mean = fence((code - self.qparams.zero(c, lanes)) * scale)
        return mean, fence(spread * (scale * scale))

    def _code(self, row: int, c: Any, lanes: int) -> Any:
        total = convert(load(self.sums, self.at, row, c, lanes=lanes), "float32")
        return fence(total * reciprocal(self.count, lanes))


def tensor_moments(moments: Moments, channels: int) -> tuple[Any, Any]:
    """Mean and variance of a whole tensor; `moments` gives fenced ones of channels, twice."""
    means, variances, between = LaneSum(), LaneSum(), LaneSum()

    def first(c: Any, lanes: int) -> None:
        mean, variance = moments(c, lanes)
        means.add(c, mean, lanes)
        variances.add(c, variance, lanes)

    exact_blocks(channels, first)
    count = const(channels)
    centre = let(means.total() / count)

    def second(c: Any, lanes: int) -> None:
        distance = let(moments(c, lanes)[0] - splat(centre, lanes))
        between.add_product(c, distance, distance, lanes)

    exact_blocks(channels, second)
    return centre, let(variances.total() / count + between.total() / count)


def add_residual(
    layer: tuple[Any, Any], residual: tuple[Any, Any], correlation: Any
) -> tuple[Any, Any]:
    """Mean and variance after a residual with its own."""
    variance, other = let(layer[1]), let(residual[1])
    cross = sqrt(variance * other)
    return layer[0] + residual[0], let(fma(correlation * const(2.0), cross, variance + other))


def product_moments(a: tuple[Any, Any], b: tuple[Any, Any], length: Any) -> tuple[Any, Any]:
    """Mean and variance of sums of `length` products of independent factors."""
    a_mean, a_variance, b_mean, b_variance = (let(v) for v in (*a, *b))
    squares = fma(a_variance, fence(b_mean * b_mean), fence((a_mean * a_mean) * b_variance))
    length = let(length)
    return let((a_mean * b_mean) * length), let(fma(a_variance, b_variance, squares) * length)
