"""From each operator to its kernel: importing this module registers the rules for LegalizeOps."""

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, tirx
from tvm.ir import Call, Op
from tvm.relax.transform.legalize_ops.common import register_legalize

from tvm_probq.kernels.merge import RESIDUAL
from tvm_probq.kernels.small.accumulator import (
    dequantize_accumulator_kernel,
    measure_kernel,
    requantize_kernel,
)
from tvm_probq.kernels.small.concat import concat_kernel
from tvm_probq.kernels.small.correction import correction_kernel
from tvm_probq.kernels.small.elementwise import (
    activation_kernel,
    add_kernel,
    clip_kernel,
    dequantize_kernel,
    dequantize_weight_kernel,
    quantize_kernel,
    rescale_kernel,
)
from tvm_probq.kernels.small.halves import pack_kernel, unpack_kernel
from tvm_probq.kernels.small.matmul import matmul_kernel
from tvm_probq.kernels.small.padding import pad_kernel
from tvm_probq.kernels.small.patch_sums import Window, patch_sums_kernel
from tvm_probq.kernels.small.pooling import avg_pool_kernel, global_avg_pool_kernel
from tvm_probq.kernels.small.products import multiply_kernel, product_range_kernel
from tvm_probq.kernels.small.ranges import (
    merge_ranges_kernel,
    observe_kernel,
    pool_range_kernel,
)
from tvm_probq.kernels.small.resize import resize_kernel
from tvm_probq.kernels.small.specs import (
    accumulator_spec,
    correction_spec,
    dtype_of,
    product_spec,
    shapes_of,
    sums_strides,
    surrogate_spec,
)
from tvm_probq.kernels.small.sums import sums_kernel
from tvm_probq.kernels.small.surrogate import surrogate_kernel
from tvm_probq.kernels.small.transpose import quantize_nchw_kernel
from tvm_probq.ops.accumulator_ops import AccumulatorArgs
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.checks import reads_packed
from tvm_probq.ops.registry import PREFIX

Make = Callable[[Call], tirx.PrimFunc]


def call_kernel(
    builder: relax.BlockBuilder, func: tirx.PrimFunc, args: Sequence[relax.Expr], out_type: Any
) -> Call:
    """Add `func` to the module and call it; `out_type` is a type, or a list for several outputs."""
    return relax.call_tir(builder.add_func(func, str(func.attrs["probq.kernel"])), args, out_type)


def _quantize(call: Call) -> tirx.PrimFunc:
    x, qparams = shapes_of(*call.args)
    make = quantize_nchw_kernel if call.attrs["layout"] == "NCHW" else quantize_kernel
    return make(x, qparams[2], dtype_of(call))


def _dequantize(call: Call) -> tirx.PrimFunc:
    q, qparams = shapes_of(*call.args)
    return dequantize_kernel(q, qparams[2], dtype_of(call.args[0]))


def _dequantize_weight(call: Call) -> tirx.PrimFunc:
    return dequantize_weight_kernel(shapes_of(call.args[0])[0], int(call.attrs["axis"]))


def _pad(call: Call) -> tirx.PrimFunc:
    q, qparams = shapes_of(*call.args)
    width = [int(p) for p in call.attrs["pad_width"]]
    return pad_kernel(q, qparams[2], width, dtype_of(call))


def _add(call: Call) -> tirx.PrimFunc:
    a, a_qparams, _, b_qparams, y_qparams = shapes_of(*call.args)
    ranges = (a_qparams[2], b_qparams[2], y_qparams[2])
    return add_kernel(a, ranges, parse_activation(str(call.attrs["activation"])))


def _multiply(call: Call) -> tirx.PrimFunc:
    return multiply_kernel(product_spec(call)).with_attr(RESIDUAL, 0)


def _matmul(call: Call) -> tirx.PrimFunc:
    a, _, b, *_ = shapes_of(*call.args)
    return matmul_kernel(a, int(b[3]), stored=len(call.args) > 4)


def _rescale(call: Call) -> tirx.PrimFunc:
    x, x_qparams, y_qparams = shapes_of(*call.args)
    return rescale_kernel(x, (x_qparams[2], y_qparams[2]), dtype_of(call.args[0]))


def _clip(call: Call) -> tirx.PrimFunc:
    q, qparams = shapes_of(*call.args)
    return clip_kernel(q, qparams[2], parse_activation(str(call.attrs["activation"])))


def _concat(call: Call) -> tirx.PrimFunc:
    return concat_kernel(shapes_of(*call.args), int(call.attrs["axis"]))


def _resize(call: Call) -> tirx.PrimFunc:
    q, rows, _, columns, _ = shapes_of(*call.args)
    return resize_kernel(q, (rows[1], columns[1]))


def _merge_ranges(call: Call) -> tirx.PrimFunc:
    shapes = shapes_of(*call.args)
    return merge_ranges_kernel(shapes[0][0], [s[2] for s in shapes], int(call.attrs["qmax"]))


def _pool_range(call: Call) -> tirx.PrimFunc:
    x, qparams = shapes_of(*call.args)
    return pool_range_kernel(x, qparams[2], int(call.attrs["qmax"]))


def _avg_pool(call: Call) -> tirx.PrimFunc:
    q, rows, columns = shapes_of(*call.args)
    return avg_pool_kernel(q, (rows[1], columns[1]))


def _global_avg_pool(call: Call) -> tirx.PrimFunc:
    x, x_qparams, y_qparams = shapes_of(*call.args)
    return global_avg_pool_kernel(x, (x_qparams[2], y_qparams[2]))


def _patch_sums(call: Call) -> tirx.PrimFunc:
    q, qparams = shapes_of(*call.args)
    names = ("kernel", "strides", "pads", "dilation")
    kernel, strides, pads, dilation = (tuple(map(int, call.attrs[name])) for name in names)
    groups, gamma = int(call.attrs["groups"]), int(call.attrs["gamma"])
    top, left, bottom, right = pads
    window = Window(
        (kernel[0], kernel[1]), (strides[0], strides[1]), (top, left, bottom, right),
        (dilation[0], dilation[1]), groups, gamma,
    )  # fmt: skip
    return patch_sums_kernel(q, qparams[2], window, reads_packed(call))


def _correction(call: Call) -> tirx.PrimFunc:
    stat, qparams = shapes_of(*call.args[:2])
    count = int(call.attrs["count"])
    return correction_kernel(stat[0], stat[2], qparams[2], count, correction_spec(call))


def _requantize(call: Call) -> tirx.PrimFunc:
    y_qparams = AccumulatorArgs.from_call(call).y_qparams
    return requantize_kernel(accumulator_spec(call), shapes_of(y_qparams)[0][2])


def _activation(call: Call) -> tirx.PrimFunc:
    return activation_kernel(shapes_of(call.args[0])[0], parse_activation(str(call.attrs["kind"])))


KERNELS: dict[str, Make] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "dequantize_weight": _dequantize_weight,
    "observe": lambda c: observe_kernel(shapes_of(c.args[0])[0], int(c.attrs["qmax"])),
    "pack_codes": lambda c: pack_kernel(shapes_of(c.args[0])[0]),
    "unpack_codes": lambda c: unpack_kernel(shapes_of(c)[0]),
    "sums": lambda c: sums_kernel(shapes_of(c.args[0])[0], sums_strides(c), packed=reads_packed(c)),
    "patch_sums": _patch_sums,
    "surrogate": lambda c: surrogate_kernel(surrogate_spec(c)),
    "correction": _correction,
    "pad": _pad,
    "dequantize_accumulator": lambda c: dequantize_accumulator_kernel(accumulator_spec(c)),
    "requantize": _requantize,
    "measure": lambda c: measure_kernel(accumulator_spec(c), int(c.attrs["qmax"])),
    "add": _add,
    "multiply": _multiply,
    "matmul": _matmul,
    "product_range": lambda c: product_range_kernel(product_spec(c), int(c.attrs["qmax"])),
    "rescale": _rescale,
    "clip": _clip,
    "concat": _concat,
    "resize": _resize,
    "merge_ranges": _merge_ranges,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "pool_range": _pool_range,
    "activation": _activation,
}


def kernel_of_call(name: str, call: Call) -> tirx.PrimFunc:
    """The kernel of an operator, without prefix, for the target in force."""
    from tvm_probq.kernels.cuda.small import cuda_kernel, on_cuda  # which needs this package

    make = KERNELS[name]
    return cuda_kernel(name, call, make) if on_cuda() else make(call)


def _rule(name: str) -> Callable[[relax.BlockBuilder, Call], relax.Expr]:
    return lambda builder, call: call_kernel(
        builder, kernel_of_call(name, call), list(call.args), call.ty
    )


def register_rules() -> None:
    """Register every rule; doing it again replaces them."""
    rules = {name: _rule(name) for name in KERNELS}
    rules["layer"] = lambda _builder, call: call.args[0]
    for name, rule in rules.items():
        Op.get(PREFIX + name).reset_attr("FLegalize")
        register_legalize(PREFIX + name, rule)


register_rules()
