"""Sigmoid and what is made of it, in float32 steps that every machine does alike."""

import numpy as np

from tvm_probq.simulator.arithmetic import F32, f32, fma, maximum, minimum

LOG2_E = 1.4426950408889634
EXPONENT_LIMIT = 125.0  # powers of two beyond would not be normal numbers
BIAS, MANTISSA = 127, 23  # of the exponent of a float32, and bits behind it
# 2^f for f in -0.5..0.5: relative error below 7.5e-8 (Lawson's algorithm, relative weights).
POWER = (
    1.0000000716559716, 0.693146967061308, 0.24022119717418047, 0.055507132760335115,
    0.00967554168352423, 0.0013276472154858535,
)  # fmt: skip
# logit(Phi(x)) / x by x^2, Phi being the normal distribution: x Phi(x) is off by at most 3.1e-6.
NORMAL = (
    1.5956562719710106, 0.072937582012728, -0.00024972332972114886, -6.116200125559462e-05,
    2.2381637237764067e-06,
)  # fmt: skip
NORMAL_LIMIT = 6.0
# The smallest values of x sigmoid(x) and x Phi(x), rounded down.
SILU_FLOOR, GELU_FLOOR = -0.2784646, -0.169973


def polynomial(x: F32, coefficients: tuple[float, ...]) -> F32:
    """Horner's scheme, the constant coefficient first."""
    *rest, value = map(f32, coefficients)
    total = np.broadcast_to(value, np.shape(x))
    for coefficient in reversed(rest):
        total = fma(total, x, coefficient)
    return f32(total)


def sigmoid(v: F32) -> F32:
    """``1 / (1 + exp(-v))``; 1 for NaN."""
    exponent = v * f32(-LOG2_E)
    exponent = minimum(maximum(exponent, -EXPONENT_LIMIT), EXPONENT_LIMIT)
    whole = np.rint(exponent)
    power = ((whole.astype(np.int32) + BIAS) << MANTISSA).view(np.float32)
    return f32(f32(1.0) / (f32(1.0) + polynomial(exponent - whole, POWER) * power))


def silu(v: F32) -> F32:
    """``v sigmoid(v)``."""
    return v * sigmoid(v)


def tanh(v: F32) -> F32:
    """``2 sigmoid(2 v) - 1``."""
    return fma(f32(2.0), sigmoid(v + v), f32(-1.0))


def gelu(v: F32) -> F32:
    """``v Phi(v)``."""
    x = minimum(maximum(v, -NORMAL_LIMIT), NORMAL_LIMIT)
    return v * sigmoid(x * polynomial(x * x, NORMAL))


SMOOTH = {"sigmoid": sigmoid, "silu": silu, "tanh": tanh, "gelu": gelu}
