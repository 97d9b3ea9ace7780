"""From a predicted mean and variance to output parameters."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.emit import let, load, splat, view
from tvm_probq.kernels.small.floats import fma, maximum, minimum, negate, sqrt
from tvm_probq.kernels.small.parameters import Parameters, map_interval
from tvm_probq.simulator.numerics import Activation


@dataclass(frozen=True)
class Fit:
    """Buffers of what calibration fitted, see :class:`tvm_probq.simulator.surrogates.Fit`."""

    spread: Any
    rule: Any
    levels: Any

    def of_channels(self, count: int) -> "Fit":
        """The same for `count` channels, see `emit.number`."""
        return Fit(view(self.spread, 2, count), self.rule, self.levels)

    @property
    def correlation(self) -> Any:
        """Correlation of a residual with the layer."""
        return load(self.rule, 0)


def write_interval(
    fit: Fit, activation: Activation, at: tuple[Any, Any], out: Parameters, c: Any, lanes: int
) -> None:
    """Write the parameters of the interval around the mean and variance `at`: `to_qparams`."""
    centre, sigma = let(at[0]), let(sqrt(maximum(at[1], 0.0)))
    alpha, beta = (load(fit.spread, row, c, lanes=lanes) for row in range(2))
    low, high = fma(negate(alpha), sigma, centre), fma(beta, sigma, centre)
    low, high = (let(end) for end in map_interval(low, high, activation))
    out.write(low, high, _choose_width(fit, low, high, lanes), c)


def _choose_width(fit: Fit, low: Any, high: Any, lanes: int) -> Any:
    """Largest code of the smallest bit-width whose step is at most the tolerance."""
    count = int(fit.levels.shape[0])
    largest = [splat(let(load(fit.levels, i)), lanes) for i in range(count)]
    if count == 1:
        return largest[0]
    width = let(maximum(high, 0.0) - minimum(low, 0.0))
    tolerance = splat(let(load(fit.rule, 1)), lanes)
    chosen = largest[-1]
    for level in reversed(largest[:-1]):
        chosen = let(tirx.Select(width / level <= tolerance, level, chosen))
    return chosen
