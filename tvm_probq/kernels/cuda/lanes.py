"""An expression of vectors as what one thread computes: that of its lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.ir import Call, PrimType
from tvm.ir.expr import TensorLoad

from tvm_probq.errors import KernelError

INTRINSICS = {
    "llvm.fma": "probq::fma",
    "llvm.minimum": "probq::nan_minimum",
    "llvm.maximum": "probq::nan_maximum",
    "llvm.lrint": "probq::whole",
}
FENCE = "llvm.arithmetic.fence"
ROUNDED = {tirx.Mul: "probq::product", tirx.Div: "probq::quotient"}  # of floats
Read = Callable[[Any, list[Any]], Any]


class Lanes:
    """Rewrites expressions for one thread.

    Parameters
    ----------
    thread : tirx.Var
        Which thread of the block.
    threads : int
        How many there are.
    read : callable
        What reads an element of a buffer, given the buffer and its indices.
    """

    def __init__(self, thread: Any, threads: int, read: Read) -> None:
        self._thread, self._threads, self._read = thread, threads, read
        self.values: dict[Any, Any] = {}  # by variable, what stands for it

    def lane(self, lanes: int) -> Any:
        """The lane of a vector that this thread computes; spare threads repeat the last one."""
        if lanes == 1:
            return tirx.const(0, "int32")
        if lanes == self._threads:
            return self._thread
        return tirx.min(self._thread, tirx.const(lanes - 1, "int32"))

    def of(self, value: Any) -> Any:
        """What this thread computes of an expression."""
        if isinstance(value, tirx.Var):
            return self.values.get(value, value)
        if isinstance(value, tirx.IntImm | tirx.FloatImm):
            return value
        if isinstance(value, tirx.Ramp):
            lane = self.lane(int(value.lanes))
            return self.of(value.base) + self.of(value.stride) * lane
        if isinstance(value, tirx.Broadcast):
            return self.of(value.value)
        if isinstance(value, TensorLoad):
            return self._read(value.source, [self.of(i) for i in value.indices])
        if isinstance(value, tirx.Cast):
            return tirx.Cast(_scalar(value), self.of(value.value))
        if isinstance(value, tirx.Select):
            parts = (value.condition, value.true_value, value.false_value)
            return tirx.Select(*map(self.of, parts))
        if isinstance(value, Call):
            return self._call(value)
        return self._operation(value)

    def _operation(self, value: Any) -> Any:
        if isinstance(value, tirx.Not):
            return tirx.Not(self.of(value.a))
        if not hasattr(value, "a"):
            raise KernelError(
                "a kernel has no form for CUDA", why=f"it holds {type(value).__name__}",
                fix="leave the layer float, or report it with the model",
            )  # fmt: skip
        a, b = self.of(value.a), self.of(value.b)
        rounded = ROUNDED.get(type(value))
        if rounded and _scalar(value) == "float32":
            return tirx.call_pure_extern("float32", rounded, a, b)
        return type(value)(a, b)

    def _call(self, call: Call) -> Any:
        arguments = list(call.args)
        name = str(call.op.name)
        if name == "tirx.call_llvm_pure_intrin":
            intrinsic = _intrinsic(arguments[0])
            values = [self.of(a) for a in arguments[1:]]
            if intrinsic == FENCE:
                return values[0]
            return tirx.call_pure_extern(_scalar(call), INTRINSICS[intrinsic], *values)
        if name == "tirx.nearbyint":
            return tirx.call_pure_extern("float32", "probq::rint", self.of(arguments[0]))
        kind = PrimType(_scalar(call))
        return Call(call.op, [self.of(a) for a in arguments], call.attrs, ret_ty=kind)


def _scalar(value: Any) -> str:
    """The element type of an expression."""
    return str(value.ty.dtype).split("x")[0]


def _intrinsic(number: Any) -> str:
    """The name behind the number of an LLVM intrinsic."""
    from tvm.target.codegen import llvm_get_intrinsic_name

    return str(llvm_get_intrinsic_name(int(number)))
