"""Scalar float32 steps in a fixed order: what NumPy, x86, ARM and CUDA code must agree on.

They agree bit for bit.  Rules, kept by every kernel too: a product that feeds a sum is always a
fused multiply-add; sums of floats have a fixed association; minimum and maximum return their second
operand when a NaN is met.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]

LANES = 16
CHAINS = 2
PROJECTION_CHAINS = 8  # long sums for few columns: more of them run side by side
SCALE_FLOOR = np.float32(2.0**-40)


def f32(value: Any) -> F32:
    """`value` as float32."""
    return np.asarray(value, dtype=np.float32)


_TIE = 0x10000000  # the 29 bits that float32 drops from a float64, at exactly half a unit
_DROPPED = 0x1FFFFFFF


def fma(a: Any, b: Any, c: Any) -> F32:
    """float32 fused multiply-add, rounded once.

    The product of two float32 is exact in float64; their sum with the third is rounded there first.
    That matters only where the rounded sum lies halfway between two float32: then the error of the
    sum (Knuth's two-sum) says on which side the exact sum is.
    """
    return _add(f32(a).astype(np.float64) * f32(b), f32(c))


def _add(product: Array, addend: F32) -> F32:
    """float64 `product`, an exact one, plus float32 `addend`, rounded once to float32."""
    total = np.asarray(product + addend)
    ties = (total.view(np.int64) & _DROPPED) == _TIE
    if ties.any():
        product, exact = (np.broadcast_to(v, total.shape)[ties] for v in (product, f32(addend)))
        addend, rounded = exact.astype(np.float64), total[ties]
        part = rounded - product
        error = (product - (rounded - part)) + (addend - part)
        toward = np.where(error > 0, np.inf, np.where(error < 0, -np.inf, rounded))
        total[ties] = np.nextafter(rounded, toward)
    return total.astype(np.float32)


def _add_in_turn(products: Iterable[Array], start: F32) -> F32:
    """`start` plus each of the exact `products`, rounded every time."""
    for product in products:
        start = _add(product, start)
    return start


def maximum(a: Any, b: Any) -> F32:
    """`a > b ? a : b`, so a NaN in `a` gives `b`."""
    a, b = np.broadcast_arrays(f32(a), f32(b))
    larger: F32 = np.where(a > b, a, b)
    return larger


def minimum(a: Any, b: Any) -> F32:
    """`a < b ? a : b`, so a NaN in `a` gives `b`."""
    a, b = np.broadcast_arrays(f32(a), f32(b))
    smaller: F32 = np.where(a < b, a, b)
    return smaller


def lane_sum(values: F32) -> F32:
    """Sum over the last axis: 16 running lane sums, then the lanes by halves."""
    lanes = _padded(values, LANES)
    partial = np.zeros(values.shape[:-1] + (LANES,), np.float32)
    for i in range(0, lanes.shape[-1], LANES):
        partial = partial + lanes[..., i : i + LANES]
    return _sum_by_halves(partial)


def lane_dot(a: F32, b: F32) -> F32:
    """Dot product over the last axis in the order of `lane_sum`, by fused multiply-adds."""
    a, b = _padded(a, LANES), _padded(b, LANES)
    products = a.astype(np.float64) * b
    by_step = np.moveaxis(products.reshape(*products.shape[:-1], -1, LANES), -2, 0)
    partial = np.zeros((*products.shape[:-1], LANES), np.float32)
    return _sum_by_halves(_add_in_turn(by_step, partial))


def chained_matvec(vector: F32, matrix: F32, chains: int = CHAINS) -> F32:
    """`vector [N, K] @ matrix [K, M]`: interleaved chains over K, added up by halves."""
    (n, k), m = vector.shape, matrix.shape[1]
    extra = -k % chains
    v = np.pad(vector.astype(np.float64), [(0, 0), (0, extra)]).T.reshape(-1, chains, n, 1)
    w = np.pad(matrix, [(0, extra), (0, 0)]).reshape(-1, chains, 1, m)
    sums = _add_in_turn(map(np.multiply, v, w), np.zeros((chains, n, m), np.float32))
    return _sum_by_halves(np.moveaxis(sums, 0, -1))


def _sum_by_halves(lanes: F32) -> F32:
    """Sum over the last axis, of 2**k elements: the upper half is added to the lower, and again."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _padded(values: F32, multiple: int) -> F32:
    extra = -values.shape[-1] % multiple
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, extra)]) if extra else values
