"""The functions of :mod:`tvm_probq.simulator.smooth` as expressions, step by step the same."""

from typing import Any, Protocol

from tvm_probq.simulator import smooth


class Steps(Protocol):
    """The float32 steps of a kind of kernel."""

    def const(self, value: float, like: Any) -> Any:
        """A float32 constant, with as many lanes as `like`."""

    def keep(self, value: Any) -> Any:
        """`value`, computed once however often it is read."""

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, rounded once."""

    def bounded(self, value: Any, limit: float) -> Any:
        """`value` within ``-limit..limit``; ``-limit`` for NaN."""

    def whole(self, value: Any) -> tuple[Any, Any]:
        """`value` rounded half to even, as float32 and as int32."""

    def power(self, exponent: Any) -> Any:
        """Two to the int32 `exponent`, float32."""


def emit_smooth(kind: str, v: Any, steps: Steps) -> Any:
    """The function called `kind` of `v`."""
    v = steps.keep(v)
    if kind == "sigmoid":
        return _sigmoid(v, steps)
    if kind == "silu":
        return v * _sigmoid(v, steps)
    if kind == "tanh":
        return steps.fma(steps.const(2.0, v), _sigmoid(v + v, steps), steps.const(-1.0, v))
    x = steps.keep(steps.bounded(v, smooth.NORMAL_LIMIT))
    return v * _sigmoid(x * _polynomial(steps.keep(x * x), smooth.NORMAL, steps), steps)


def _sigmoid(v: Any, steps: Steps) -> Any:
    one = steps.const(1.0, v)
    exponent = steps.bounded(v * steps.const(-smooth.LOG2_E, v), smooth.EXPONENT_LIMIT)
    exponent = steps.keep(exponent)
    whole, integer = steps.whole(exponent)
    # The product by a power of two is exact: it may become part of a fused multiply-add.
    part = _polynomial(steps.keep(exponent - whole), smooth.POWER, steps)
    return one / (one + part * steps.power(integer))


def _polynomial(x: Any, coefficients: tuple[float, ...], steps: Steps) -> Any:
    *rest, value = (steps.const(c, x) for c in coefficients)
    for coefficient in reversed(rest):
        value = steps.keep(steps.fma(value, x, coefficient))
    return value
