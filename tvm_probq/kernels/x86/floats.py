"""The float32 steps of an epilogue as expressions that TVM vectorizes and LLVM leaves alone."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvm_probq.kernels.spec import LayerSpec

SIXTH = 1.0 / 6.0


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


def round_to_code(v: Any) -> Any:
    """A float32 in 0..255 rounded half to even, as uint8."""
    return rint(v).astype("uint8")


def activate(v: Any, spec: LayerSpec) -> Any:
    """The activation on real values."""
    if spec.activation == "none":
        return v
    if spec.linear:
        low, high = spec.clip
        return tirx.min(tirx.max(v, _const(low)), _const(high))
    return sixfold(v, spec) * _const(SIXTH)


def sixfold(v: Any, spec: LayerSpec) -> Any:
    """Six times a hard activation."""
    gate = tirx.min(tirx.max(v + _const(3.0), _const(0.0)), _const(6.0))
    return v * gate if spec.activation == "hard_swish" else gate


def _const(value: float) -> Any:
    return tirx.const(value, "float32")
