"""The definition of resizing on codes, in NumPy."""

import numpy as np

from tvm_probq.simulator.arithmetic import F32, Array, fma


def resize(q: Array, rows: Array, row_weights: F32, columns: Array, column_weights: F32) -> Array:
    """Codes ``[N, H', W', C]`` between rows and columns of `q`, under its own parameters.

    Weights add up to one, so scale and zero-point cancel; a value between two codes is a code.
    """
    image = q.astype(np.float32)
    left, right = (image[:, :, index] for index in columns)
    lines = _between(left, right, column_weights[:, None])
    top, bottom = (lines[:, index] for index in rows)
    return np.rint(_between(top, bottom, row_weights[:, None, None])).astype(np.uint8)


def _between(a: F32, b: F32, weight: F32) -> F32:
    return fma(b - a, weight, a)
