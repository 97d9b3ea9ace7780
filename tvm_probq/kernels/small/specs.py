"""Read the specification of a kernel off the call of its operator."""

from typing import Any

from tvm import relax, tirx
from tvm.ir import Call

from tvm_probq.kernels.small.accumulator import AccumulatorSpec
from tvm_probq.kernels.small.correction import CorrectionSpec
from tvm_probq.kernels.small.products import ProductSpec
from tvm_probq.kernels.small.surrogate import ResidualSpec, SurrogateSpec
from tvm_probq.ops.accumulator_ops import AccumulatorArgs
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.product_ops import is_gated
from tvm_probq.ops.surrogate_op import surrogate_args

Shape = tuple[Any, ...]


def shapes_of(*tensors: relax.Expr) -> list[Shape]:
    """Shapes of the arguments of a kernel; all share one variable if the batch is symbolic."""
    batch = tirx.Var("batch", "int64")

    def dim(value: Any) -> Any:
        return int(value) if isinstance(value, tirx.IntImm) else batch

    return [tuple(dim(d) for d in tensor.ty.shape.values) for tensor in tensors]


def dtype_of(codes: relax.Expr) -> str:
    """dtype of a tensor of codes."""
    return str(codes.ty.dtype)


def sums_strides(call: Call) -> tuple[int, int]:
    """Strides of the rows and columns that a call of `sums` reads."""
    down, right = (int(s) for s in call.attrs["strides"])
    return down, right


def accumulator_spec(call: Call) -> AccumulatorSpec:
    """Shapes of a call of `requantize`, `measure` or `dequantize_accumulator`."""
    args = AccumulatorArgs.from_call(call)
    shape, x = shapes_of(args.acc, args.x_qparams)
    residual = args.residual_qparams
    ranges = 0 if residual is None else shapes_of(residual)[0][2]
    activation = parse_activation(args.activation)
    return AccumulatorSpec(
        shape, x[2], activation, args.correction is not None, ranges,
        "uint8" if args.residual is None else dtype_of(args.residual), args.dtype,
    )  # fmt: skip


def surrogate_spec(call: Call) -> SurrogateSpec:
    """Shapes of a call of `surrogate`."""
    args = surrogate_args(call)
    tensors = (args.stat, args.x_qparams, args.spread, args.levels, *args.constants)
    stat, x, spread, levels, *constants = shapes_of(*tensors)
    residual = None
    if args.residual is not None:
        sums, qparams = shapes_of(*args.residual)
        residual = ResidualSpec(sums[2], qparams[2], args.residual_count)
    return SurrogateSpec(
        args.kind, stat[0], stat[2], x[2], args.count, tuple(constants), spread[1], levels[0],
        parse_activation(args.activation), residual,
    )  # fmt: skip


def correction_spec(call: Call) -> CorrectionSpec:
    """Shapes of a call of `correction`."""
    shapes = shapes_of(*call.args)
    rank = shapes[4][1] if len(shapes) > 4 else None
    return CorrectionSpec(rank, shapes[2][-1], len(shapes[2]) == 1)


def product_spec(call: Call) -> ProductSpec:
    """Shapes of a call of `multiply` or `product_range`."""
    shape, a_qparams, other, b_qparams, *y = shapes_of(*call.args)
    ranges = tuple(int(q[2]) for q in (a_qparams, b_qparams, *y))
    activation = parse_activation(str(call.attrs["activation"]))
    return ProductSpec(shape, is_gated(shape, other), ranges, activation)
