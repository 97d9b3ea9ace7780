"""``relax.probq.*`` operators evaluated by their definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_probq import ops
from tvm_probq.ir.expressions import constant_value, ints
from tvm_probq.simulator import numerics, products, surrogates
from tvm_probq.simulator.arithmetic import F32, Array
from tvm_probq.simulator.float_ops import Evaluate
from tvm_probq.simulator.resize import resize
from tvm_probq.simulator.surrogates import Fit, moments_of

QUANTIZED_OPS: dict[str, Evaluate] = {}


def _defines(name: str) -> Callable[[Evaluate], Evaluate]:
    def register(function: Evaluate) -> Evaluate:
        QUANTIZED_OPS[f"relax.probq.{name}"] = function
        return function

    return register


@_defines("activation")
def _activation(call: Any, args: list[Any]) -> Array:
    return numerics.activate(args[0], ops.parse_activation(str(call.attrs["kind"])))


@_defines("layer")
def _layer(call: Any, args: list[Any]) -> Array:
    marked: Array = args[0]
    return marked


@_defines("quantize")
def _quantize(call: Any, args: list[Any]) -> Array:
    x = args[0]
    if str(call.attrs["layout"]) == "NCHW":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return numerics.quantize(x, args[1], str(call.ty.dtype))


@_defines("dequantize")
def _dequantize(call: Any, args: list[Any]) -> Array:
    return numerics.dequantize(args[0], args[1])


@_defines("dequantize_weight")
def _dequantize_weight(call: Any, args: list[Any]) -> Array:
    codes, scale = args
    shape = [-1 if a == int(call.attrs["axis"]) else 1 for a in range(codes.ndim)]
    real: Array = codes.astype(np.float32) * scale.reshape(shape)
    return real


@_defines("observe")
def _observe(call: Any, args: list[Any]) -> F32:
    return numerics.measure(args[0], int(call.attrs["qmax"]))


@_defines("pack_codes")
def _pack_codes(_call: Any, args: list[Any]) -> Array:
    return numerics.pack_codes(args[0])


@_defines("unpack_codes")
def _unpack_codes(_call: Any, args: list[Any]) -> Array:
    return numerics.unpack_codes(args[0])


def _codes(call: Any, tensor: Array) -> Array:
    """The codes that a call reads from a tensor."""
    return numerics.unpack_codes(tensor) if ops.reads_packed(call) else tensor


@_defines("sums")
def _sums(call: Any, args: list[Any]) -> Array:
    down, right = ints(call.attrs["strides"])
    return numerics.sums(_codes(call, args[0]), (down, right))


@_defines("patch_sums")
def _patch_sums(call: Any, args: list[Any]) -> F32:
    a = call.attrs
    return surrogates.patch_sums(
        _codes(call, args[0]), args[1], ints(a["kernel"]), ints(a["strides"]), ints(a["pads"]),  # type: ignore[arg-type]
        ints(a["dilation"]), int(a["groups"]), int(a["gamma"]),  # type: ignore[arg-type]
    )  # fmt: skip


@_defines("surrogate")
def _surrogate(call: Any, args: list[Any]) -> F32:
    named = ops.surrogate_args(call)
    values = dict(zip(call.args, args, strict=True))
    stat, qparams = args[0], args[1]
    constants = [constant_value(c) for c in named.constants]
    fit = Fit(*(constant_value(c) for c in (named.spread, named.rule, named.levels)))
    centre, variance = _predict(
        named, stat, qparams, constants, per_channel=fit.spread.shape[1] > 1
    )
    if named.residual is not None:
        r_sums, r_qparams = (values[r] for r in named.residual)
        other = surrogates.tensor_moments(*moments_of(r_sums, r_qparams, named.residual_count))
        if named.kind == "matmul":
            moments = surrogates.product_moments((centre, variance), other, constants[0])
            centre, variance = moments
        else:
            centre, variance = surrogates.add_residual(centre, variance, other, fit.rule[0])
    activation = ops.parse_activation(named.activation)
    return surrogates.to_qparams(centre, variance, fit, activation)


def _predict(
    named: ops.SurrogateArgs, stat: Array, qparams: F32, constants: list[Array], per_channel: bool
) -> tuple[F32, F32]:
    if named.kind == "iid":
        table = surrogates.IidTable(constants[0])
        return surrogates.predict_iid(table, stat, qparams[:, 0], named.count)
    mean, variance = moments_of(stat, qparams, named.count)
    if named.kind in ("add", "matmul"):
        return surrogates.tensor_moments(mean, variance)
    if named.kind == "moments_tensor":
        basis = constants[:-4]
        tensor = surrogates.MomentsTensor(basis[0] if basis else None, *constants[-4:])
        return surrogates.predict_tensor(tensor, mean, variance)
    if named.kind == "moments_channel":
        result = surrogates.predict_channel(surrogates.MomentsChannel(*constants), mean, variance)
    else:
        result = surrogates.predict_diagonal(surrogates.MomentsDiagonal(*constants), mean, variance)
    return result if per_channel else surrogates.tensor_moments(*result)


@_defines("correction")
def _correction(call: Any, args: list[Any]) -> F32:
    stat, qparams, matrix, *rest = args
    mean, _ = moments_of(stat, qparams, int(call.attrs["count"]))
    return surrogates.correct(mean, matrix, *rest)


@_defines("pad")
def _pad(call: Any, args: list[Any]) -> Array:
    width = ints(call.attrs["pad_width"])
    pairs = list(zip(width[::2], width[1::2], strict=True))
    return numerics.pad_zero_point(args[0], args[1], pairs)


def _accumulator(
    call: Any, args: list[Any]
) -> tuple[numerics.Accumulator, numerics.Activation, Any]:
    """The accumulator, its activation and the output parameters, from the argument values."""
    named = ops.AccumulatorArgs.from_call(call)
    rest = iter(args)
    acc, x_qparams = next(rest), next(rest)
    y_qparams = next(rest) if named.y_qparams is not None else None
    scale, total, bias = next(rest), next(rest), next(rest)
    correction = next(rest) if named.correction is not None else None
    residual = [next(rest), next(rest)] if named.residual is not None else [None, None]
    accumulator = numerics.Accumulator(acc, x_qparams, scale, total, bias, correction, *residual)
    return accumulator, ops.parse_activation(named.activation), y_qparams


@_defines("dequantize_accumulator")
def _dequantize_accumulator(call: Any, args: list[Any]) -> Array:
    accumulator, activation, _ = _accumulator(call, args)
    return numerics.dequantize_accumulator(accumulator, activation)


@_defines("requantize")
def _requantize(call: Any, args: list[Any]) -> Array:
    accumulator, activation, y_qparams = _accumulator(call, args)
    return numerics.requantize(accumulator, y_qparams, activation, str(call.ty.dtype))


@_defines("measure")
def _measure(call: Any, args: list[Any]) -> F32:
    accumulator, activation, _ = _accumulator(call, args)
    values = numerics.dequantize_accumulator(accumulator, activation)
    return numerics.measure(values, int(call.attrs["qmax"]))


@_defines("add")
def _add(call: Any, args: list[Any]) -> Array:
    a, a_qparams, b, b_qparams, y_qparams = args
    activation = ops.parse_activation(str(call.attrs["activation"]))
    return numerics.add(a, a_qparams, b, b_qparams, y_qparams, activation)


@_defines("multiply")
def _multiply(call: Any, args: list[Any]) -> Array:
    a, a_qparams, b, b_qparams, y_qparams = args
    activation = ops.parse_activation(str(call.attrs["activation"]))
    return products.multiply(a, a_qparams, b, b_qparams, y_qparams, activation)


@_defines("matmul")
def _matmul(call: Any, args: list[Any]) -> Array:
    return products.matmul(*args)


@_defines("product_range")
def _product_range(call: Any, args: list[Any]) -> F32:
    a, a_qparams, b, b_qparams = args
    activation, qmax = ops.parse_activation(str(call.attrs["activation"])), int(call.attrs["qmax"])
    return products.product_range(a, a_qparams, b, b_qparams, qmax, activation)


@_defines("rescale")
def _rescale(call: Any, args: list[Any]) -> Array:
    return numerics.rescale(*args)


@_defines("concat")
def _concat(call: Any, args: list[Any]) -> Array:
    return np.concatenate(args, int(call.attrs["axis"]))


@_defines("resize")
def _resize(_call: Any, args: list[Any]) -> Array:
    return resize(*args)


@_defines("merge_ranges")
def _merge_ranges(call: Any, args: list[Any]) -> F32:
    return numerics.merge_ranges(args, int(call.attrs["qmax"]))


@_defines("clip")
def _clip(call: Any, args: list[Any]) -> Array:
    q, qparams = args
    return numerics.clip(q, qparams, ops.parse_activation(str(call.attrs["activation"])))


@_defines("avg_pool")
def _avg_pool(_call: Any, args: list[Any]) -> Array:
    return numerics.avg_pool(*args)


@_defines("global_avg_pool")
def _global_avg_pool(call: Any, args: list[Any]) -> Array:
    return numerics.global_avg_pool(*args)


@_defines("pool_range")
def _pool_range(call: Any, args: list[Any]) -> F32:
    return numerics.pool_range(args[0], args[1], int(call.attrs["qmax"]))
