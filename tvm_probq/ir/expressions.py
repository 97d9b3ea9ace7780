"""Small questions about Relax expressions, asked in one place."""

from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax
from tvm.ir import Call, GenericConst, Op

Array = npt.NDArray[Any]


def is_constant(expr: Any) -> TypeGuard[GenericConst]:
    """Whether `expr` is a constant tensor."""
    return isinstance(expr, GenericConst)


def constant_value(expr: GenericConst) -> Array:
    """The array of a constant tensor: its own memory, which cannot be written to."""
    value: Array = np.from_dlpack(expr.value)
    value.setflags(write=False)
    return value


def constant(value: Any, dtype: str | None = None) -> GenericConst:
    """A constant tensor of `value`."""
    array = np.asarray(value, dtype=dtype, order="C")
    return relax.const(array, str(array.dtype))  # without a type it narrows 64-bit numbers


def op_name(expr: Any) -> str:
    """Name of the operator `expr` calls, such as ``relax.nn.conv2d``; empty for all else."""
    return str(expr.op.name) if isinstance(expr, Call) and isinstance(expr.op, Op) else ""


def is_call(expr: Any, *names: str) -> bool:
    """Whether `expr` calls one of the operators `names`, given without the ``relax.`` prefix."""
    return op_name(expr).removeprefix("relax.") in names


def shape_of(expr: Any) -> tuple[int, ...]:
    """Static shape of a tensor expression, empty for scalars.

    Raises
    ------
    ValueError
        When the rank or a dimension is not known.
    """
    if not isinstance(expr.ty, relax.TensorType) or not isinstance(expr.ty.shape, relax.ShapeExpr):
        raise ValueError(f"{expr} has no static shape")
    dims = list(expr.ty.shape.values)
    if not all(isinstance(d, tvm.tirx.IntImm) for d in dims):
        raise ValueError(f"{expr} has the symbolic shape {expr.ty.shape}")
    return tuple(int(d) for d in dims)


def is_tensor(expr: Any) -> bool:
    """Whether `expr` is a tensor of static shape."""
    try:
        shape_of(expr)
    except (ValueError, AttributeError):
        return False
    return True


def ints(values: Any) -> tuple[int, ...]:
    """A TVM array, tuple or shape expression of integers."""
    if isinstance(values, relax.ShapeExpr):
        values = values.values
    return tuple(int(v) for v in values)


def describe(call: Any) -> str:
    """A short name of a call for messages."""
    if is_call(call, "probq.activation"):
        return str(call.attrs["kind"]).split("(")[0]
    return op_name(call).removeprefix("relax.") or type(call).__name__
