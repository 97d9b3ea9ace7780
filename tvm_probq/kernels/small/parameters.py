"""Quantization parameters inside a kernel: reading, making and applying them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from tvm_probq.errors import KernelError
from tvm_probq.kernels.small.emit import lanes_of, let, load, splat, store
from tvm_probq.kernels.small.floats import (
    SCALE_FLOOR,
    const,
    convert,
    fma,
    maximum,
    minimum,
    negate,
    rint,
    rint_int32,
)
from tvm_probq.kernels.small.machine import on_arm
from tvm_probq.kernels.small.neon import EIGHT, codes_of
from tvm_probq.kernels.smooth import emit_smooth
from tvm_probq.simulator.numerics import Activation
from tvm_probq.simulator.smooth import BIAS, MANTISSA, SMOOTH

NO_ACTIVATION = Activation()
BYTE = 255.0


@dataclass(frozen=True)
class Parameters:
    """One sample's scale, zero-point and largest code, for the tensor or for each channel."""

    buffer: Any
    sample: Any

    @property
    def per_channel(self) -> bool:
        """Whether each channel has its own."""
        ranges = self.buffer.shape[2]
        return not isinstance(ranges, tirx.IntImm) or int(ranges) > 1

    def scale(self, channel: Any, lanes: int) -> Any:
        """Scales of `lanes` channels."""
        return self._row(0, channel, lanes)

    def zero(self, channel: Any, lanes: int) -> Any:
        """Zero-points, as float32."""
        return self._row(1, channel, lanes)

    def qmax(self, channel: Any, lanes: int) -> Any:
        """Largest codes, as float32."""
        return self._row(2, channel, lanes)

    def _row(self, row: int, channel: Any, lanes: int) -> Any:
        if self.per_channel:
            return let(load(self.buffer, self.sample, row, channel, lanes=lanes))
        return splat(let(load(self.buffer, self.sample, row, 0)), lanes)

    def write(self, low: Any, high: Any, qmax: Any, channel: Any = 0) -> None:
        """Store the parameters of the interval from `low` to `high`: `make_qparams`."""
        lanes = lanes_of(low)
        low, high, qmax = let(minimum(low, 0.0)), let(maximum(high, 0.0)), let(qmax)
        scale = let(maximum((high - low) / qmax, SCALE_FLOOR))
        zero = rint(minimum(maximum(negate(low) / scale, 0.0), qmax))
        for row, value in enumerate((scale, zero, qmax)):
            store(self.buffer, value, self.sample, row, channel, lanes=lanes)


def to_codes(value: Any, lower: Any, upper: Any, dtype: str = "uint8") -> Any:
    """Clip in float, round, and narrow to uint8 or int16."""
    bytes_ = on_arm() and dtype == "uint8" and lanes_of(value) % EIGHT == 0
    if bytes_ and _is_one(lower) and _is_one(upper):
        return _clip_codes(codes_of(value), lower, upper)
    return convert(rint_int32(minimum(maximum(value, lower), upper)), dtype)


def _is_one(bound: Any) -> bool:
    """Whether all lanes have the same bound."""
    return isinstance(bound, tirx.Broadcast)


def _clip_codes(codes: Any, lower: Any, upper: Any) -> Any:
    """Codes clipped after rounding: the same, as bounds are whole numbers."""
    lanes, (low, high) = lanes_of(codes), (_as_code(bound.value) for bound in (lower, upper))
    if not isinstance(low, tirx.IntImm):
        codes = let(tirx.max(codes, splat(low, lanes)))
    return tirx.min(codes, splat(high, lanes))


def _as_code(bound: Any) -> Any:
    """A bound as uint8; a constant stays one."""
    if isinstance(bound, tirx.FloatImm):
        return tirx.const(int(bound.value), "uint8")
    return let(convert(minimum(maximum(bound, 0.0), BYTE), "uint8"))


def code_bounds(activation: Activation, y: Parameters, channel: Any, lanes: int) -> tuple[Any, Any]:
    """Smallest and largest code after a linear activation."""
    if on_arm() and lanes > 1 and not y.per_channel:
        low, high = (let(bound) for bound in code_bounds(activation, y, channel, 1))
        return splat(low, lanes), splat(high, lanes)
    scale, zero, upper = y.scale(channel, lanes), y.zero(channel, lanes), y.qmax(channel, lanes)
    lower = const(0.0, lanes)
    if np.isfinite(activation.low):
        lower = let(maximum(rint(const(activation.low, lanes) / scale + zero), 0.0))
    if np.isfinite(activation.high):
        upper = let(minimum(rint(const(activation.high, lanes) / scale + zero), upper))
    return lower, upper


def activate(value: Any, activation: Activation) -> Any:
    """The activation on real values."""
    if activation.kind == "none":
        return value
    if activation.kind == "clip":
        return minimum(maximum(value, float(activation.low)), float(activation.high))
    return unscaled(value, activation) * const(activation.factor, lanes_of(value))


def unscaled(value: Any, activation: Activation) -> Any:
    """An activation that is no clip, before its constant factor."""
    value = let(value)
    if activation.kind == "leaky":
        return maximum(value, value * const(activation.slope, lanes_of(value)))
    if activation.kind in SMOOTH:
        return emit_smooth(activation.kind, value, _Steps())
    gate = minimum(maximum(value + const(3.0, lanes_of(value)), 0.0), 6.0)
    if activation.kind == "hard_swish":
        return value * gate
    if activation.kind == "hard_sigmoid":
        return gate
    raise KernelError(f"unknown activation {activation.kind!r}", where="small kernels")


class _Steps:
    """The steps of smooth activations on vectors."""

    def const(self, value: float, like: Any) -> Any:
        return const(value, lanes_of(like))

    def keep(self, value: Any) -> Any:
        return let(value)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return fma(a, b, c)

    def bounded(self, value: Any, limit: float) -> Any:
        return minimum(maximum(value, -limit), limit)

    def whole(self, value: Any) -> tuple[Any, Any]:
        integer = let(rint_int32(value))
        return convert(integer, "float32"), integer

    def power(self, exponent: Any) -> Any:
        bits = (exponent + BIAS) << MANTISSA
        lanes = lanes_of(exponent)
        return tirx.reinterpret(f"float32x{lanes}" if lanes > 1 else "float32", bits)


def map_interval(low: Any, high: Any, activation: Activation) -> tuple[Any, Any]:
    """Both ends of an interval through the activation, and its smallest value if it is inside."""
    if activation.floor is not None:
        low, high = activate(low, activation), activate(high, activation)
        return minimum(low, activation.floor), maximum(high, 0.0)
    return activate(low, activation), activate(high, activation)
