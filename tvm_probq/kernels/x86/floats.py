"""The float32 steps of an epilogue as expressions that TVM vectorizes and LLVM leaves alone."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvm_probq.kernels.smooth import emit_smooth
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.simulator.smooth import BIAS, MANTISSA, SMOOTH


def fma(a: Any, b: Any, c: Any) -> Any:
    """Fused multiply-add of float32, one rounding.

    `tirx.op.fma` becomes LLVM's ``fmuladd``, which rounds twice where there is no such instruction.
    """
    return tirx.call_llvm_pure_intrin("float32", "llvm.fma", a, b, c)


def rint(v: Any) -> Any:
    """A float32 rounded half to even, as int32; what int32 does not hold becomes the smallest.

    `tirx.nearbyint` would do, but TVM's vectorizer takes it apart into scalars.
    """
    return tirx.call_llvm_pure_intrin("int32", "llvm.lrint", v)


def activate(v: Any, spec: LayerSpec) -> Any:
    """The activation on real values."""
    tail = spec.tail
    if tail.kind == "none":
        return v
    if tail.linear:
        return tirx.min(tirx.max(v, _const(tail.low)), _const(tail.high))
    return unscaled(v, spec) * _const(tail.factor)


def unscaled(v: Any, spec: LayerSpec) -> Any:
    """An activation that is no clip, before its constant factor."""
    if spec.tail.kind == "leaky":
        return tirx.max(v, v * _const(spec.tail.slope))
    if spec.tail.kind in SMOOTH:
        return emit_smooth(spec.tail.kind, v, _Steps())
    gate = tirx.min(tirx.max(v + _const(3.0), _const(0.0)), _const(6.0))
    return v * gate if spec.tail.kind == "hard_swish" else gate


class _Steps:
    """The steps of smooth activations on scalars, which the schedule makes vectors of."""

    def const(self, value: float, like: Any) -> Any:
        return _const(value)

    def keep(self, value: Any) -> Any:
        return value  # one expression, which LLVM computes once

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return fma(a, b, c)

    def bounded(self, value: Any, limit: float) -> Any:
        return tirx.min(tirx.max(value, _const(-limit)), _const(limit))

    def whole(self, value: Any) -> tuple[Any, Any]:
        integer = rint(value)
        return integer.astype("float32"), integer

    def power(self, exponent: Any) -> Any:
        return tirx.reinterpret("float32", (exponent + BIAS) << MANTISSA)


def _const(value: float) -> Any:
    return tirx.const(value, "float32")
