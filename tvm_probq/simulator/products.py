"""The definition of elementwise products of codes, in NumPy."""

from typing import Any

import numpy as np

from tvm_probq.simulator.arithmetic import F32, Array, fma
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


def centred(q: Array, qparams: F32) -> F32:
    """float32 of codes less their zero-point, exact."""
    zero = spread(qparams, 1, q.ndim).astype(np.int32)
    less: F32 = (q.astype(np.int32) - zero).astype(np.float32)
    return less


def _step(a_qparams: F32, b_qparams: F32, ndim: int) -> F32:
    """Real value of one unit of the product of both codes."""
    return spread(a_qparams, 0, ndim) * spread(b_qparams, 0, ndim)
