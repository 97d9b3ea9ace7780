"""Sums of floats in the fixed order of :mod:`tvm_probq.simulator.arithmetic`."""

from collections.abc import Callable
from typing import Any

from tvm_probq.kernels.small.emit import (
    VECTOR,
    Register,
    let,
    load,
    loop,
    splat,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import convert, fma
from tvm_probq.kernels.small.machine import accumulators, wide
from tvm_probq.simulator.arithmetic import CHAINS

Scalars = Callable[[Any], Any]


class LaneSum:
    """Running `lane_sum` or `lane_dot`: 16 lanes, added up by halves at the end."""

    def __init__(self) -> None:
        self._lanes = Register(VECTOR)

    def add(self, c: Any, value: Any, lanes: int) -> None:
        """Add the vector of elements from `c` on; a product must have gone through `fence`."""
        at = _lane(c)
        self._lanes.set(self._lanes.get(lanes, at) + value, lanes, at)

    def add_product(self, c: Any, a: Any, b: Any, lanes: int) -> None:
        """Add the product of two vectors by a fused multiply-add."""
        at = _lane(c)
        self._lanes.set(fma(a, b, self._lanes.get(lanes, at)), lanes, at)

    def total(self) -> Any:
        """All lanes together."""
        lanes = VECTOR
        while lanes > 1:
            lanes //= 2
            self._lanes.set(self._lanes.get(lanes) + self._lanes.get(lanes, lanes), lanes)
        return let(self._lanes.get(1))


def _lane(c: Any) -> int:
    """Lane of element `c`: only the short blocks at the end, of known place, are not at 0."""
    return c % VECTOR if isinstance(c, int) else 0


def chained_matvec(
    vector: Scalars, rows: int, matrix: Any, columns: int, emit: Callable[[Any, int, Any], None],
    count: int = CHAINS,
) -> None:  # fmt: skip
    """Hand ``vector [rows] @ matrix [rows, columns]`` to ``emit(column, lanes, value)``.

    The matrix is float32 or int8; `count` chains go over the rows.  A column may come twice, so
    `emit` must be a plain store.
    """

    def block(column: Any, lanes: int) -> None:
        chains = [Register(lanes) for _ in range(count)]

        def step(chain: int, row: Any) -> None:
            register = chains[chain]
            weight = convert(load(matrix, row, column, lanes=lanes), "float32")
            register.set(fma(splat(vector(row), lanes), weight, register.get()))

        with loop(rows // count) as j:
            for chain in range(count):
                step(chain, j * count + chain)
        for chain in range(rows % count):
            step(chain, rows // count * count + chain)
        totals = [chain.get() for chain in chains]
        while len(totals) > 1:
            half = len(totals) // 2
            pairs = zip(totals[:half], totals[half:], strict=True)
            totals = [let(low + high) for low, high in pairs]
        emit(column, lanes, totals[0])

    wide_blocks(columns, block, min(wide(), accumulators() * VECTOR // count))
