"""Relax operators ``relax.probq.*``: importing this package registers them."""

import tvm_probq.guard  # noqa: F401  (before TVM is imported)
from tvm_probq.ops.accumulator_ops import (
    AccumulatorArgs,
    dequantize_accumulator,
    measure,
    requantize,
)
from tvm_probq.ops.activation import format_activation, parse_activation
from tvm_probq.ops.activation_op import activation
from tvm_probq.ops.checks import MAX_CODE, MAX_WIDE_CODE, largest_code, reads_packed
from tvm_probq.ops.matmul_op import matmul
from tvm_probq.ops.packing_ops import pack_codes, packed_attrs, unpack_codes
from tvm_probq.ops.pooling_ops import avg_pool, global_avg_pool, pool_range
from tvm_probq.ops.predict_ops import correction, patch_sums, sums
from tvm_probq.ops.product_ops import multiply, product_range
from tvm_probq.ops.registry import is_probq
from tvm_probq.ops.resize_op import resize
from tvm_probq.ops.surrogate_op import SurrogateArgs, surrogate, surrogate_args
from tvm_probq.ops.tensor_ops import (
    add,
    clip,
    concat,
    dequantize,
    dequantize_weight,
    layer,
    merge_ranges,
    observe,
    pad,
    quantize,
    rescale,
)

__all__ = [
    "MAX_CODE",
    "MAX_WIDE_CODE",
    "AccumulatorArgs",
    "SurrogateArgs",
    "activation",
    "add",
    "avg_pool",
    "clip",
    "concat",
    "correction",
    "dequantize",
    "dequantize_accumulator",
    "dequantize_weight",
    "format_activation",
    "global_avg_pool",
    "is_probq",
    "largest_code",
    "layer",
    "matmul",
    "measure",
    "merge_ranges",
    "multiply",
    "observe",
    "pack_codes",
    "packed_attrs",
    "pad",
    "parse_activation",
    "patch_sums",
    "pool_range",
    "product_range",
    "quantize",
    "reads_packed",
    "requantize",
    "rescale",
    "resize",
    "sums",
    "surrogate",
    "surrogate_args",
    "unpack_codes",
]
