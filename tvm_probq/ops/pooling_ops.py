"""Average pooling on codes, and the exact range of the means of whole images."""

from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ir.expressions import constant_value, is_constant
from tvm_probq.ops import checks
from tvm_probq.ops.registry import make_call, register


def global_avg_pool(x: Expr, x_qparams: Expr, y_qparams: Expr) -> Call:
    """Average over positions.

    Parameters
    ----------
    x : relax.Expr
        uint8 ``[N, H, W, C]``.
    x_qparams, y_qparams : relax.Expr
        float32 ``[N, 3, G]`` of the input and of the result.

    Returns
    -------
    Call
        uint8 ``[N, C]``.
    """
    return make_call("global_avg_pool", [x, x_qparams, y_qparams])


def avg_pool(q: Expr, rows: Expr, columns: Expr) -> Call:
    """Average over windows, under the parameters of `q`, which it needs not know.

    Parameters
    ----------
    q : relax.Expr
        uint8 ``[N, H, W, C]``.
    rows, columns : relax.Expr
        int32 ``[2, H']`` and ``[2, W']``: the first row (column) of each window, and one past its
        last.  No window is empty.

    Returns
    -------
    Call
        uint8 ``[N, H', W', C]``.
    """
    return make_call("avg_pool", [q, rows, columns])


def pool_range(x: Expr, x_qparams: Expr, *, qmax: int) -> Call:
    """Parameters of the range of the channel means.

    Parameters
    ----------
    x : relax.Expr
        uint8 ``[N, H, W, C]``.
    x_qparams : relax.Expr
        float32 ``[N, 3, G]``.
    qmax : int
        Largest code of the result.

    Returns
    -------
    Call
        float32 ``[N, 3, 1]``.
    """
    return make_call("pool_range", [x, x_qparams], qmax=qmax)


def _infer_pool(call: Call) -> Any:
    checks.expect_count(call, 3)
    dims = checks.dims_of(call, 0, "x", "uint8", 4)
    checks.expect_qparams(call, 1, "x_qparams", dims[0], dims[-1])
    checks.expect_qparams(call, 2, "y_qparams", dims[0], dims[-1])
    return checks.tensor_type([dims[0], dims[-1]], "uint8")


def _infer_windows(call: Call) -> Any:
    checks.expect_count(call, 3)
    batch, height, width, channels = checks.dims_of(call, 0, "q", "uint8", 4)
    size = []
    for at, name, length in ((1, "rows", height), (2, "columns", width)):
        dims = checks.dims_of(call, at, name, "int32", 2)
        checks.expect_dims(call, name, dims, 2, dims[1])
        if is_constant(call.args[at]):
            first, end = constant_value(call.args[at])
            if first.min() < 0 or end.max() > int(length) or (first >= end).any():
                why = f"it must hold some of the image's {length} {name}"
                raise checks.fail(call, f"a window of {name} is empty or outside", why)
        size.append(dims[1])
    return checks.tensor_type([batch, *size, channels], "uint8")


def _infer_range(call: Call) -> Any:
    checks.expect_count(call, 2)
    checks.expect_qmax(call)
    dims = checks.dims_of(call, 0, "x", "uint8", 4)
    checks.expect_qparams(call, 1, "x_qparams", dims[0], dims[-1])
    return checks.qparams_type(dims[0])


register("global_avg_pool", _infer_pool)
register("avg_pool", _infer_windows)
register("pool_range", _infer_range)
