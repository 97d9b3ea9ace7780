"""Axes of a drawing, with ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# About so many ticks an axis, at multiples of these times a power of ten.
TICKS = 6
STEPS = (1.0, 2.0, 5.0, 10.0)
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


@dataclass(frozen=True)
class Axis:
    """Values along a side of a drawing.

    Attributes
    ----------
    low, high : float
        The values at its ends.
    start, end : float
        Where its ends are drawn.
    step : float
        Between ticks.
    unit : str
        Of the ticks' texts.
    scale : float
        Values of one unit.
    """

    low: float
    high: float
    start: float
    end: float
    step: float
    unit: str = ""
    scale: float = 1.0

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round values and their texts."""
        digits = max(0, -math.floor(math.log10(self.step / self.scale) + 1e-9))
        count = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(count + 1)]
        return [(value, f"{value / self.scale:.{digits}f}") for value in values]


def number_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis around some values; around 0 to 1 without any."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-9 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / TICKS)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return Axis(low, high, start, end, step)


def bytes_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """The same, with the unit that suits the largest value."""
    axis = number_axis(values, start, end)
    scale, unit = next(u for u in UNITS if axis.high >= u[0] or u is UNITS[-1])
    return Axis(axis.low, axis.high, start, end, axis.step, unit, scale)


def _round_step(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in STEPS if power * factor >= step * (1 - 1e-9))
