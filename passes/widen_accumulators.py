"""Compute products of codes in integers that cannot overflow."""

import json
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, ints, is_call
from tvm_probq.ir.layers import PRODUCTS, Definitions, marker_behind
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.quantization.accumulator import CODE_MAX, prove_accumulator

PROOFS = "probq_accumulators"


@tvm.transform.module_pass(opt_level=0, name="probq.WidenAccumulators")
class WidenAccumulators:
    """Turn products of dequantized codes into integer products, each proven not to overflow.

    Before::

        x, w_real = R.probq.dequantize(q, qp), R.probq.dequantize_weight(w, t)
        lv = R.nn.conv2d(x, w_real, padding=[1, 1, 1, 1])

    After::

        q1 = R.probq.pad(q, qp, pad_width=[0, 0, 1, 1, 1, 1, 0, 0])
        acc = R.nn.conv2d(q1, w, out_dtype="int32")
        lv = R.probq.dequantize_accumulator(acc, qp, t, w_sums, zeros)

    The proof of each layer is recorded in the function's attribute ``probq_accumulators`` (JSON, by
    layer name).  Holds before: `InsertSurrogates` and `QuantizeWeights`.  Holds after: no product
    has dequantized operands.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        definitions = Definitions(mod["main"])
        proofs: dict[str, str] = {}

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if not is_call(new, *PRODUCTS):
                return None
            marker = marker_behind(definitions, old)
            name = "" if marker is None else str(marker.attrs["name"])
            return _widen(rewriter, new, name, proofs)

        mod = rewrite(mod, visit)
        if proofs:
            mod["main"] = mod["main"].with_attr(PROOFS, json.dumps(proofs))
        return mod


def _widen(rewriter: Rewriter, call: Call, name: str, proofs: dict[str, str]) -> relax.Expr | None:
    x, w = (rewriter.value(a) for a in call.args)
    if not (is_call(x, "probq.dequantize") and is_call(w, "probq.dequantize_weight")):
        return None
    codes, qparams = x.args
    weights, scale = (rewriter.value(a) for a in w.args)
    axis = int(w.attrs["axis"])
    by_output = np.moveaxis(constant_value(weights), axis, 0)
    proof = prove_accumulator(by_output, name, _largest_code(rewriter, codes))
    proofs[name or str(len(proofs))] = str(proof)
    sums = by_output.reshape(len(by_output), -1).sum(1, dtype=np.int32)
    if is_call(call, "matmul"):
        acc = relax.op.matmul(codes, weights, out_dtype="int32")
    else:
        acc = _convolution(rewriter, call, codes, qparams, weights)
    bias = constant(np.zeros(len(by_output), np.float32))
    return ops.dequantize_accumulator(
        rewriter.emit(acc, name="acc"), qparams, scale, constant(sums), bias
    )


def _largest_code(rewriter: Rewriter, codes: Any) -> int:
    """The largest code of a tensor; wide ones are only moved by operators of one operand."""
    if str(codes.ty.dtype) == "uint8":
        return CODE_MAX
    made = rewriter.value(codes)
    while not is_call(made, "probq.quantize"):
        made = rewriter.value(made.args[0])
    return ops.largest_code(made)


def _convolution(rewriter: Rewriter, call: Call, codes: Any, qparams: Any, weights: Any) -> Call:
    """The convolution on codes; padding becomes an operator of its own, with the zero-point."""
    a = call.attrs
    top, left, bottom, right = ints(a.padding)
    if any((top, left, bottom, right)):
        width = [0, 0, top, bottom, left, right, 0, 0]
        codes = rewriter.emit(ops.pad(codes, qparams, pad_width=width), name="padded")
    return relax.op.nn.conv2d(
        codes, weights, strides=a.strides, padding=(0, 0, 0, 0), dilation=a.dilation,
        groups=a.groups, data_layout="NHWC", kernel_layout="OHWI", out_dtype="int32",
    )  # fmt: skip
