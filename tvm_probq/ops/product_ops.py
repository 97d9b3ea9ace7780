"""Elementwise products of codes, such as of a tensor and its gate, and their exact range."""

from collections.abc import Sequence
from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.registry import make_call, register


def multiply(
    a: Expr, a_qparams: Expr, b: Expr, b_qparams: Expr, y_qparams: Expr, *, activation: str = "none"
) -> Call:
    """Codes of a linear activation of the product of two tensors.

    Parameters
    ----------
    a : relax.Expr
        uint8, channels last.
    b : relax.Expr
        uint8, of the shape of `a`, or a gate with one value a channel: ``[N, 1, 1, C]``.
    a_qparams, b_qparams, y_qparams : relax.Expr
        float32 ``[N, 3, G]`` of both and of the result.
    activation : str
        ``"none"`` or a clip.

    Returns
    -------
    Call
        uint8, of the shape of `a`.
    """
    parse_activation(activation)
    return make_call("multiply", [a, a_qparams, b, b_qparams, y_qparams], activation=activation)


def product_range(
    a: Expr, a_qparams: Expr, b: Expr, b_qparams: Expr, *, qmax: int, activation: str = "none"
) -> Call:
    """Parameters of the exact range of `multiply`, of the same tensors and activation.

    Parameters
    ----------
    a, b, a_qparams, b_qparams : relax.Expr
        As for `multiply`.
    qmax : int
        Largest code of the result.
    activation : str
        ``"none"`` or a clip.

    Returns
    -------
    Call
        float32 ``[N, 3, 1]``.
    """
    parse_activation(activation)
    tensors = [a, a_qparams, b, b_qparams]
    return make_call("product_range", tensors, activation=activation, qmax=qmax)


def is_gated(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether a tensor of the dimensions `b` has one value for each channel of one of `a`."""
    return len(b) == len(a) == 4 and _is_position(b) and not _is_position(a)


def _is_position(dims: Sequence[Any]) -> bool:
    return all(isinstance(d, int) and d == 1 for d in dims[1:3])


def _infer_factors(call: Call) -> list[Any]:
    """Check both factors and the activation; gives the dimensions of the product."""
    text = checks.attribute(call, "activation")
    if not parse_activation(text).linear:
        why = "only a clip can be done on the codes of a product"
        raise checks.fail(call, f"activation is {text}", why)
    dims = checks.dims_of(call, 0, "a", "uint8")
    other = checks.dims_of(call, 2, "b", "uint8")
    wanted = [dims[0], 1, 1, dims[-1]] if is_gated(dims, other) else dims
    checks.expect_dims(call, "b", other, *wanted)
    for index, name in ((1, "a_qparams"), (3, "b_qparams")):
        checks.expect_qparams(call, index, name, dims[0], dims[-1])
    return dims


def _infer_multiply(call: Call) -> Any:
    checks.expect_count(call, 5)
    dims = _infer_factors(call)
    checks.expect_qparams(call, 4, "y_qparams", dims[0], dims[-1])
    return checks.tensor_type(dims, "uint8")


def _infer_range(call: Call) -> Any:
    checks.expect_count(call, 4)
    checks.expect_qmax(call)
    return checks.qparams_type(_infer_factors(call)[0])


register("multiply", _infer_multiply)
register("product_range", _infer_range)
