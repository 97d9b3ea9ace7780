"""A layer's shape as the cost model sees it, and the divisors that split it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extent:
    """A layer as the kernels of an architecture see it: what the cost model learns from.

    Attributes
    ----------
    rows, columns : int
        Output positions.
    reduction : int
        Steps of the sum of one position.
    block : int
        Output channels of a block.
    step : int
        Products that an instruction adds up in each lane.
    """

    rows: int
    columns: int
    reduction: int
    block: int
    step: int


def divisors(n: int) -> list[int]:
    """Give all divisors, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]
