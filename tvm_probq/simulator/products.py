"""The definition of products of two tensors of codes, in NumPy."""

from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import F32, Array, f32, fma
from tvm_probq.simulator.numerics import (
    Activation,
    activate,
    code_bounds,
    ends,
    make_qparams,
    spread,
    to_codes,
)


def multiply(
    a: Array, a_qparams: F32, b: Array, b_qparams: F32, y_qparams: F32, act: Activation
) -> Array:
    """Quantized product of `a` with `b`, which may be a gate ``[N, 1, 1, C]``."""
    step = _step(a_qparams, b_qparams, a.ndim) / spread(y_qparams, 0, a.ndim)
    factor = centred(b, b_qparams) * step
    v = fma(centred(a, a_qparams), factor, spread(y_qparams, 1, a.ndim))
    return to_codes(v, *code_bounds(act, y_qparams, a.ndim))


def product_range(
    a: Array, a_qparams: F32, b: Array, b_qparams: F32, qmax: Any, act: Activation
) -> F32:
    """Parameters of the exact range of the product, per sample; a linear activation included."""
    factor = centred(b, b_qparams) * _step(a_qparams, b_qparams, a.ndim)
    low, high = ends(centred(a, a_qparams) * factor)
    return make_qparams(activate(low, act), activate(high, act), qmax)


def matmul(
    a: Array, a_qparams: F32, b: Array, b_qparams: F32, y_qparams: F32 | None = None
) -> Array:
    """Matrix product of codes ``[N, H, M, K]`` and ``[N, H, K, P]``: codes, or reals."""
    # Sums of products of 8-bit codes are exact in float64.
    sums = centred(a, a_qparams).astype(np.float64) @ centred(b, b_qparams).astype(np.float64)
    step = _step(a_qparams, b_qparams, a.ndim)
    if y_qparams is None:
        real: F32 = sums.astype(np.float32) * step
        return real
    scale, zero, qmax = (spread(y_qparams, row, a.ndim) for row in range(3))
    return to_codes(fma(sums.astype(np.float32), step / scale, zero), f32(0.0), qmax)


def centred(q: Array, qparams: F32) -> F32:
    """float32 of codes less their zero-point, exact."""
    zero = spread(qparams, 1, q.ndim).astype(np.int32)
    less: F32 = (q.astype(np.int32) - zero).astype(np.float32)
    return less


def _step(a_qparams: F32, b_qparams: F32, ndim: int) -> F32:
    """Real value of one unit of the product of both codes."""
    return spread(a_qparams, 0, ndim) * spread(b_qparams, 0, ndim)
