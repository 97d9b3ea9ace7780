"""Resizing on codes."""

from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ir.expressions import constant_value, is_constant
from tvm_probq.ops import checks
from tvm_probq.ops.registry import make_call, register


def resize(q: Expr, rows: Expr, row_weights: Expr, columns: Expr, column_weights: Expr) -> Call:
    """Codes of a resized image under the parameters of `q`, which it needs not know.

    Parameters
    ----------
    q : relax.Expr
        uint8 ``[N, H, W, C]``.
    rows, columns : relax.Expr
        int32 ``[2, H']`` and ``[2, W']``: the two old rows that each new one lies between.
    row_weights, column_weights : relax.Expr
        float32 ``[H']`` and ``[W']``, 0 to 1: how far it lies from the first.

    Returns
    -------
    Call
        uint8 ``[N, H', W', C]``.
    """
    return make_call("resize", [q, rows, row_weights, columns, column_weights])


def _infer(call: Call) -> Any:
    checks.expect_count(call, 5)
    batch, height, width, channels = checks.dims_of(call, 0, "q", "uint8", 4)
    size = []
    for at, name, length in ((1, "row", height), (3, "column", width)):
        index = checks.dims_of(call, at, f"{name}s", "int32", 2)
        checks.expect_dims(call, f"{name}s", index, 2, index[1])
        weights = checks.dims_of(call, at + 1, f"{name}_weights", "float32", 1)
        checks.expect_dims(call, f"{name}_weights", weights, index[1])
        if is_constant(call.args[at]):
            values = constant_value(call.args[at])
            if values.min() < 0 or values.max() >= int(length):
                why = f"the image has {length} {name}s"
                raise checks.fail(call, f"a {name} is outside", why)
        size.append(index[1])
    return checks.tensor_type([batch, *size, channels], "uint8")


register("resize", _infer)
