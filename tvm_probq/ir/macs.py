"""Multiply-accumulates of operators, as a float model does them."""

from math import prod
from typing import Any

from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import is_call, is_tensor, shape_of
from tvm_probq.ir.rewrite import bindings

CONVOLUTIONS = ("nn.conv1d", "nn.conv2d", "nn.conv3d")
TRANSPOSED = tuple(f"{name}_transpose" for name in CONVOLUTIONS)


def macs_of(call: Any) -> int:
    """Multiply-accumulates of a convolution or matrix product, 0 for all else.

    A convolution counts its padding, a transposed one what it spreads each input over.
    """
    if not isinstance(call, Call) or not is_call(call, "matmul", *CONVOLUTIONS, *TRANSPOSED):
        return 0
    if not all(map(is_tensor, (call, *call.args))):
        return 0  # of unknown shape, which is refused elsewhere
    if is_call(call, "matmul"):
        return prod(shape_of(call)) * shape_of(call.args[0])[-1]
    if is_call(call, *CONVOLUTIONS):
        taps = _without(shape_of(call.args[1]), str(call.attrs.kernel_layout), "O")
        return prod(shape_of(call)) * taps
    taps = _without(shape_of(call.args[1]), str(call.attrs.kernel_layout), "I")
    return prod(shape_of(call.args[0])) * taps


def _without(weights: tuple[int, ...], layout: str, axis: str) -> int:
    return prod(n for n, letter in zip(weights, layout, strict=True) if letter != axis)


def float_macs(mod: IRModule) -> int:
    """Multiply-accumulates in float32 of one call of ``main``."""
    calls = (binding.value for binding in bindings(mod["main"]))
    return sum(macs_of(c) for c in calls if is_tensor(c) and str(c.ty.dtype) == "float32")
