"""The scalar steps of :mod:`tvm_probq.simulator.arithmetic` as expressions, bit for bit.

TVM's own `fma` may become a product and a sum where the machine has no such instruction, and LLVM
makes one out of any product that feeds a sum: hence the intrinsic below, and `fence`.
"""

from typing import Any

import numpy as np
from tvm import tirx

from tvm_probq.kernels.small.emit import Number, lanes_of, let, splat
from tvm_probq.kernels.small.machine import on_arm
from tvm_probq.kernels.small.neon import rounded

SCALE_FLOOR = 2.0**-40
NARROW = {"uint8", "int8", "int16"}


def const(value: Any, lanes: int = 1) -> Any:
    """A float32 constant in every lane."""
    if isinstance(value, Number):
        return splat(tirx.Cast("float32", value.variable), lanes)
    return splat(tirx.FloatImm("float32", float(np.float32(value))), lanes)


def reciprocal(count: int, lanes: int = 1) -> Any:
    """``1 / count`` in every lane: dividing each vector would take longer than all the rest."""
    if isinstance(count, Number):
        return splat(let(const(1.0) / const(count)), lanes)
    return const(np.float32(1.0) / np.float32(count), lanes)


def fma(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once on every machine."""
    return tirx.call_llvm_pure_intrin(a.ty, "llvm.fma", a, b, c)


def fence(product: Any) -> Any:
    """`product` rounded before it feeds a sum."""
    return let(tirx.call_llvm_pure_intrin(product.ty, "llvm.arithmetic.fence", product))


def nan_minimum(a: Any, b: Any) -> Any:
    """The smaller one; NaN if either is, as ``numpy.min``."""
    return tirx.call_llvm_pure_intrin(a.ty, "llvm.minimum", a, b)


def nan_maximum(a: Any, b: Any) -> Any:
    """The larger one; NaN if either is, as ``numpy.max``."""
    return tirx.call_llvm_pure_intrin(a.ty, "llvm.maximum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """``a > b ? a : b``."""
    a, b = let(a), _like(b, a)
    return tirx.Select(a > b, a, b)


def minimum(a: Any, b: Any) -> Any:
    """``a < b ? a : b``."""
    a, b = let(a), _like(b, a)
    return tirx.Select(a < b, a, b)


def rint(value: Any) -> Any:
    """Round half to even."""
    return tirx.nearbyint(value)


def rint_int32(value: Any) -> Any:
    """Round half to even, as int32, which must hold it: one instruction, not three."""
    if on_arm():
        return rounded(value)
    lanes = lanes_of(value)
    kind = f"int32x{lanes}" if lanes > 1 else "int32"
    return tirx.call_llvm_pure_intrin(kind, "llvm.lrint", value)


def negate(value: Any) -> Any:
    """``-value``."""
    return value * const(-1.0, lanes_of(value))


def sqrt(value: Any) -> Any:
    """The correctly rounded square root."""
    return tirx.sqrt(value)


def convert(value: Any, kind: str) -> Any:
    """`value` as another type; codes to floats by way of int32, or LLVM goes lane by lane."""
    lanes = lanes_of(value)
    suffix = f"x{lanes}" if lanes > 1 else ""
    source = str(value.ty.dtype)
    if source.split("x")[0] == kind:
        return value
    if {source.split("x")[0], kind} & NARROW and "float32" in source + kind:
        value = tirx.Cast("int32" + suffix, value)
    return tirx.Cast(kind + suffix, value)


def _like(value: Any, other: Any) -> Any:
    if isinstance(value, int | float):
        return const(value, lanes_of(other))
    return let(value)
