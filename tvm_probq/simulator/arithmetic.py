"""Scalar float32 steps in a fixed order: what NumPy, x86, ARM and CUDA code must agree on.

They agree bit for bit.  Rules, kept by every kernel too: a product that feeds a sum is always a
fused multiply-add; sums of floats have a fixed association; minimum and maximum return their second
operand when a NaN is met.
"""

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
    product = f32(a).astype(np.float64) * f32(b)
    addend = f32(c).astype(np.float64)
    total = np.asarray(product + addend)
    shape, total = total.shape, total.reshape(-1)
    ties = (total.view(np.int64) & _DROPPED) == _TIE
    if ties.any():
        product, addend = (np.broadcast_to(v, shape).reshape(-1)[ties] for v in (product, addend))
        part = total[ties] - product
        error = (product - (total[ties] - part)) + (addend - part)
        toward = np.where(error > 0, np.inf, np.where(error < 0, -np.inf, total[ties]))
        total[ties] = np.nextafter(total[ties], toward)
    rounded: F32 = total.astype(np.float32).reshape(shape)
    return rounded


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
    partial = np.zeros(np.broadcast_shapes(a.shape, b.shape)[:-1] + (LANES,), np.float32)
    for i in range(0, a.shape[-1], LANES):
        partial = fma(a[..., i : i + LANES], b[..., i : i + LANES], partial)
    return _sum_by_halves(partial)


def chained_matvec(vector: F32, matrix: F32, chains: int = CHAINS) -> F32:
    """`vector [N, K] @ matrix [K, M]`: interleaved chains over K, added up by halves."""
    count = -(-vector.shape[1] // chains) * chains
    v = np.zeros((vector.shape[0], count), np.float32)
    v[:, : vector.shape[1]] = vector
    m = np.zeros((count, matrix.shape[1]), np.float32)
    m[: matrix.shape[0]] = matrix
    sums = np.zeros((chains, vector.shape[0], matrix.shape[1]), np.float32)
    for i in range(0, count, chains):
        sums = fma(v[:, i : i + chains].T[:, :, None], m[i : i + chains, None, :], sums)
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
