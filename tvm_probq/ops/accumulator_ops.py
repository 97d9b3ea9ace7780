"""Operators on a layer's int32 accumulator: to real values, to codes, and its range."""

from dataclasses import dataclass
from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.registry import make_call, register
from tvm_probq.ops.tensor_ops import wide_attrs

Residual = tuple[Expr, Expr] | None


@dataclass(frozen=True)
class AccumulatorArgs:
    """Tensors and activation of a call of `requantize`, `measure` or `dequantize_accumulator`.

    Attributes
    ----------
    acc : relax.Expr
        int32 ``[N, ..., OC]``: sums of raw codes times weights.
    x_qparams : relax.Expr
        float32 ``[N, 3, G]`` of the layer's input.
    y_qparams : relax.Expr or None
        float32 ``[N, 3, G]`` of the layer's output, for `requantize` alone.
    weight_scale, weight_sum, bias : relax.Expr
        float32, int32 and float32, all ``[OC]``.
    correction : relax.Expr or None
        float32 ``[N, OC]``, added to the bias.
    residual, residual_qparams : relax.Expr or None
        uint8 or int16 of the shape of `acc`, and float32 ``[N, 3, G]``.
    activation : str
        See :mod:`tvm_probq.ops.activation`.
    dtype : str
        Of the codes of `requantize`, ``uint8`` or ``int16``.
    """

    acc: Expr
    x_qparams: Expr
    y_qparams: Expr | None
    weight_scale: Expr
    weight_sum: Expr
    bias: Expr
    correction: Expr | None
    residual: Expr | None
    residual_qparams: Expr | None
    activation: str
    dtype: str = "uint8"

    @staticmethod
    def from_call(call: Call) -> "AccumulatorArgs":
        """Name the arguments of `call`.

        Raises
        ------
        KernelError
            When an attribute is missing or the number of tensors does not fit the attributes.
        """
        has_y = str(call.op.name).endswith(".requantize")
        has_correction = bool(checks.attribute(call, "has_correction"))
        has_residual = bool(checks.attribute(call, "has_residual"))
        checks.expect_count(call, 5 + has_y + has_correction + 2 * has_residual)
        rest = iter(call.args)
        acc, x_qparams = next(rest), next(rest)
        y_qparams = next(rest) if has_y else None
        scale, total, bias = next(rest), next(rest), next(rest)
        correction = next(rest) if has_correction else None
        residual, residual_qparams = (next(rest), next(rest)) if has_residual else (None, None)
        activation = str(checks.attribute(call, "activation"))
        return AccumulatorArgs(
            acc, x_qparams, y_qparams, scale, total, bias,
            correction, residual, residual_qparams, activation,
            checks.codes_dtype(call) if has_y else "uint8",
        )  # fmt: skip


def dequantize_accumulator(
    acc: Expr, x_qparams: Expr, weight_scale: Expr, weight_sum: Expr, bias: Expr,
    correction: Expr | None = None, residual: Residual = None, *, activation: str = "none",
) -> Call:  # fmt: skip
    """Real values float32 of a layer's output; for the arguments see :class:`AccumulatorArgs`."""
    args = [acc, x_qparams, weight_scale, weight_sum, bias]
    return _make("dequantize_accumulator", args, correction, residual, activation)


def requantize(
    acc: Expr, x_qparams: Expr, y_qparams: Expr, weight_scale: Expr, weight_sum: Expr, bias: Expr,
    correction: Expr | None = None, residual: Residual = None, *, activation: str = "none",
    qmax: int = checks.MAX_CODE,
) -> Call:  # fmt: skip
    """Codes of a layer's output; for the arguments see :class:`AccumulatorArgs`.

    They are uint8, or int16 where the largest code that `y_qparams` may hold, `qmax`, is above 255.
    """
    args = [acc, x_qparams, y_qparams, weight_scale, weight_sum, bias]
    return _make("requantize", args, correction, residual, activation, **wide_attrs(qmax))


def measure(
    acc: Expr, x_qparams: Expr, weight_scale: Expr, weight_sum: Expr, bias: Expr,
    correction: Expr | None = None, residual: Residual = None, *, activation: str = "none",
    qmax: int = 255,
) -> Call:  # fmt: skip
    """Parameters float32 ``[N, 3, 1]`` of the exact range of a layer's real output.

    For the arguments see :class:`AccumulatorArgs`.
    """
    args = [acc, x_qparams, weight_scale, weight_sum, bias]
    return _make("measure", args, correction, residual, activation, qmax=qmax)


def _make(
    name: str, args: list[Any], correction: Any, residual: Residual, activation: str, **attrs: int
) -> Call:
    parse_activation(activation)
    given = [*args, *([] if correction is None else [correction]), *(residual or ())]
    return make_call(
        name,
        given,
        activation=activation,
        has_correction=int(correction is not None),
        has_residual=int(residual is not None),
        **attrs,
    )


def _infer(call: Call) -> list[Any]:
    """Check every argument; gives the dimensions of the accumulator."""
    args = AccumulatorArgs.from_call(call)
    parse_activation(args.activation)
    dims = checks.dims_of(call, 0, "acc", "int32")
    batch, channels = dims[0], dims[-1]
    checks.expect_qparams(call, 1, "x_qparams", batch, channels)
    index = 2
    if args.y_qparams is not None:
        checks.expect_qparams(call, index, "y_qparams", batch, channels)
        index += 1
    vectors = {"weight_scale": "float32", "weight_sum": "int32", "bias": "float32"}
    for name, dtype in vectors.items():
        checks.expect_dims(call, name, checks.dims_of(call, index, name, dtype, 1), channels)
        index += 1
    if args.correction is not None:
        have = checks.dims_of(call, index, "correction", "float32", 2)
        checks.expect_dims(call, "correction", have, batch, channels)
        index += 1
    if args.residual is not None:
        dtype = checks.dtype_of_codes(call, index)
        checks.expect_dims(call, "residual", checks.dims_of(call, index, "residual", dtype), *dims)
        checks.expect_qparams(call, index + 1, "residual_qparams", batch, channels)
    return dims


def _infer_measure(call: Call) -> Any:
    checks.expect_qmax(call, checks.MAX_WIDE_CODE)
    return checks.qparams_type(_infer(call)[0])


register("dequantize_accumulator", lambda call: checks.tensor_type(_infer(call), "float32"))
register("requantize", lambda call: checks.tensor_type(_infer(call), checks.codes_dtype(call)))
register("measure", _infer_measure)
