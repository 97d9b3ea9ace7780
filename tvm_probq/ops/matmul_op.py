"""Matrix products of two tensors of codes, such as those of attention."""

from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.registry import make_call, register


def matmul(
    a: Expr, a_qparams: Expr, b: Expr, b_qparams: Expr, y_qparams: Expr | None = None
) -> Call:
    """Matrix product of two stored tensors.

    Parameters
    ----------
    a : relax.Expr
        uint8 ``[N, H, M, K]``.
    b : relax.Expr
        uint8 ``[N, H, K, P]``.
    a_qparams, b_qparams : relax.Expr
        float32 ``[N, 3, 1]``.
    y_qparams : relax.Expr, optional
        float32 ``[N, 3, 1]`` of the result.

    Returns
    -------
    Call
        ``[N, H, M, P]``: codes, uint8, or reals, float32, without `y_qparams`.
    """
    tensors = [a, a_qparams, b, b_qparams]
    return make_call("matmul", tensors if y_qparams is None else [*tensors, y_qparams])


def _infer(call: Call) -> Any:
    stored = len(call.args) > 4
    checks.expect_count(call, 4 + stored)
    a = checks.dims_of(call, 0, "a", "uint8", 4)
    b = checks.dims_of(call, 2, "b", "uint8", 4)
    checks.expect_dims(call, "b", b, a[0], a[1], a[3], b[3])
    names = {1: "a_qparams", 3: "b_qparams", **({4: "y_qparams"} if stored else {})}
    for index, name in names.items():
        checks.expect_qparams(call, index, name, a[0], 1)
    return checks.tensor_type([*a[:3], b[3]], "uint8" if stored else "float32")


register("matmul", _infer)
