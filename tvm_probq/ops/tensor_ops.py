"""Operators between real values, codes and parameters: quantize, dequantize, pad, add and so on."""

from collections.abc import Sequence
from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.registry import make_call, register

LAYOUTS = ("NHWC", "NCHW")


def quantize(
    x: Expr, qparams: Expr, *, layout: str = "NHWC", qmax: int = checks.MAX_CODE
) -> Call:  # fmt: skip
    """Codes of real values.

    Parameters
    ----------
    x : relax.Expr
        float32, channels last; ``[N, C, H, W]`` when `layout` is ``"NCHW"``.
    qparams : relax.Expr
        float32 ``[N, 3, G]``.
    layout : str
        ``"NCHW"`` also transposes: the result is ``[N, H, W, C]`` in either case.
    qmax : int
        No code under `qparams` is larger; above 255 codes are stored in 16 bits.

    Returns
    -------
    Call
        uint8, or int16 for wide codes, channels last.
    """
    return make_call("quantize", [x, qparams], layout=layout, **wide_attrs(qmax))


def wide_attrs(qmax: int) -> dict[str, int]:
    """The attribute of an operator that writes codes of more than 8 bits."""
    return {"qmax": qmax} if qmax > checks.MAX_CODE else {}


def _infer_quantize(call: Call) -> Any:
    checks.expect_count(call, 2)
    layout = checks.attribute(call, "layout")
    if layout not in LAYOUTS:
        raise checks.fail(call, f"layout is {layout!r}", f"it must be one of {', '.join(LAYOUTS)}")
    dims = checks.dims_of(call, 0, "x", "float32", *([4] if layout == "NCHW" else []))
    if layout == "NCHW":
        dims = [dims[0], dims[2], dims[3], dims[1]]
    checks.expect_qparams(call, 1, "qparams", dims[0], dims[-1])
    return checks.tensor_type(dims, checks.codes_dtype(call))


def dequantize(q: Expr, qparams: Expr) -> Call:
    """Real values float32 of codes `q` under `qparams` ``[N, 3, G]``; same shape as `q`.

    The codes are uint8 or int16.
    """
    return make_call("dequantize", [q, qparams])


def _infer_dequantize(call: Call) -> Any:
    checks.expect_count(call, 2)
    dims = checks.dims_of(call, 0, "q", checks.dtype_of_codes(call, 0))
    checks.expect_qparams(call, 1, "qparams", dims[0], dims[-1])
    return checks.tensor_type(dims, "float32")


def dequantize_weight(codes: Expr, scale: Expr, *, axis: int, bits: int) -> Call:
    """Real values float32 of int8 weights `codes`, with a `scale` float32 ``[OC]`` along `axis`.

    `bits` says how many of the eight bits the codes use; it is for reports only.
    """
    return make_call("dequantize_weight", [codes, scale], axis=axis, bits=bits)


def _infer_dequantize_weight(call: Call) -> Any:
    checks.expect_count(call, 2)
    checks.positive(call, "bits")
    dims = checks.dims_of(call, 0, "codes", "int8", 1, 2, 3, 4, 5)
    axis = checks.attribute(call, "axis")
    if not 0 <= axis < len(dims):
        raise checks.fail(call, f"axis is {axis}", f"the weights have rank {len(dims)}")
    checks.expect_dims(call, "scale", checks.dims_of(call, 1, "scale", "float32", 1), dims[axis])
    return checks.tensor_type(dims, "float32")


def observe(x: Expr, *, qmax: int) -> Call:
    """Parameters ``[N, 3, 1]`` of the range of float32 values `x`, per sample; NaN is left out."""
    return make_call("observe", [x], qmax=qmax)


def _infer_observe(call: Call) -> Any:
    checks.expect_count(call, 1)
    checks.expect_qmax(call, checks.MAX_WIDE_CODE)
    return checks.qparams_type(checks.dims_of(call, 0, "x", "float32")[0])


def pad(q: Expr, qparams: Expr, *, pad_width: Sequence[int]) -> Call:
    """Pad codes with the code of real zero.

    Parameters
    ----------
    q : relax.Expr
        uint8 or int16, channels last.
    qparams : relax.Expr
        float32 ``[N, 3, G]``.
    pad_width : sequence of int
        Elements before and after, axis by axis; none on the batch.

    Returns
    -------
    Call
        Codes of the same dtype.
    """
    return make_call("pad", [q, qparams], pad_width=[int(p) for p in pad_width])


def _infer_pad(call: Call) -> Any:
    checks.expect_count(call, 2)
    dtype = checks.dtype_of_codes(call, 0)
    dims = checks.dims_of(call, 0, "q", dtype)
    width = [int(p) for p in checks.attribute(call, "pad_width")]
    if len(width) != 2 * len(dims) or min(width) < 0:
        why = f"it must hold {2 * len(dims)} numbers, none negative"
        raise checks.fail(call, f"pad_width is {width}", why)
    if any(width[:2]):
        raise checks.fail(call, f"pad_width is {width}", "a sample of padding has no parameters")
    ranges = checks.expect_qparams(call, 1, "qparams", dims[0], dims[-1])
    if any(width[-2:]) and checks.differ(ranges, 1):
        raise checks.fail(call, f"pad_width is {width}", "a padded channel has no range of its own")
    padded = [
        d + before + after for d, before, after in zip(dims, width[::2], width[1::2], strict=True)
    ]
    return checks.tensor_type(padded, dtype)


def add(
    a: Expr, a_qparams: Expr, b: Expr, b_qparams: Expr, y_qparams: Expr, *, activation: str = "none"
) -> Call:
    """Codes, under `y_qparams`, of a linear activation of the sum of two uint8 tensors.

    The tensors have one shape.  Every parameter tensor is float32 ``[N, 3, G]``.
    """
    parse_activation(activation)
    return make_call("add", [a, a_qparams, b, b_qparams, y_qparams], activation=activation)


def _infer_add(call: Call) -> Any:
    checks.expect_count(call, 5)
    text = checks.attribute(call, "activation")
    if not parse_activation(text).linear:
        why = "only a clip can be done on the codes of a sum"
        raise checks.fail(call, f"activation is {text}", why)
    dims = checks.dims_of(call, 0, "a", "uint8")
    checks.expect_dims(call, "b", checks.dims_of(call, 2, "b", "uint8"), *dims)
    for index, name in ((1, "a_qparams"), (3, "b_qparams"), (4, "y_qparams")):
        checks.expect_qparams(call, index, name, dims[0], dims[-1])
    return checks.tensor_type(dims, "uint8")


def rescale(x: Expr, x_qparams: Expr, y_qparams: Expr) -> Call:
    """Codes uint8, under `y_qparams`, of the same real values as the codes `x`, uint8 or int16."""
    return make_call("rescale", [x, x_qparams, y_qparams])


def _infer_rescale(call: Call) -> Any:
    checks.expect_count(call, 3)
    dims = checks.dims_of(call, 0, "x", checks.dtype_of_codes(call, 0))
    checks.expect_qparams(call, 1, "x_qparams", dims[0], dims[-1])
    checks.expect_qparams(call, 2, "y_qparams", dims[0], dims[-1])
    return checks.tensor_type(dims, "uint8")


def clip(q: Expr, qparams: Expr, *, activation: str) -> Call:
    """The uint8 codes `q` under `qparams` ``[N, 3, G]``, those outside of a clip at its ends."""
    parse_activation(activation)
    return make_call("clip", [q, qparams], activation=activation)


def _infer_clip(call: Call) -> Any:
    checks.expect_count(call, 2)
    text = checks.attribute(call, "activation")
    if not parse_activation(text).linear:
        raise checks.fail(call, f"activation is {text}", "only a clip can be done on codes")
    dims = checks.dims_of(call, 0, "q", "uint8")
    checks.expect_qparams(call, 1, "qparams", dims[0], dims[-1])
    return checks.tensor_type(dims, "uint8")


def concat(parts: Sequence[Expr], *, axis: int) -> Call:
    """Join uint8 tensors of one set of parameters along `axis`, which is not the batch."""
    return make_call("concat", parts, axis=axis)


def _infer_concat(call: Call) -> Any:
    dims = checks.dims_of(call, 0, "parts[0]", "uint8")
    axis = checks.attribute(call, "axis")
    if not 0 < axis < len(dims):
        raise checks.fail(call, f"axis is {axis}", f"the tensors have rank {len(dims)}")
    joined = dims[axis]
    for index in range(1, len(call.args)):
        part = checks.dims_of(call, index, f"parts[{index}]", "uint8", len(dims))
        checks.expect_dims(
            call, f"parts[{index}]", part, *dims[:axis], part[axis], *dims[axis + 1 :]
        )
        joined = joined + part[axis]
    return checks.tensor_type([*dims[:axis], joined, *dims[axis + 1 :]], "uint8")


def merge_ranges(all_qparams: Sequence[Expr], *, qmax: int) -> Call:
    """Parameters ``[N, 3, 1]`` of the smallest range that holds all of the given ones."""
    return make_call("merge_ranges", all_qparams, qmax=qmax)


def _infer_merge_ranges(call: Call) -> Any:
    checks.expect_qmax(call)
    batch = checks.dims_of(call, 0, "all_qparams[0]", "float32", 3)[0]
    for index in range(len(call.args)):
        name = f"all_qparams[{index}]"
        dims = checks.dims_of(call, index, name, "float32", 3)
        checks.expect_dims(call, name, dims, batch, 3, dims[2])
    return checks.qparams_type(batch)


def layer(y: Expr, *, name: str, kind: str, reason: str = "") -> Call:
    """`y` itself, marked as a tensor to be quantized.

    Parameters
    ----------
    y : relax.Expr
        Any tensor.
    name : str
        Name of the layer in the plan and in reports.
    kind : str
        What the layer is, such as ``"conv2d"``.
    reason : str
        Why it stays float, if it does.
    """
    return make_call("layer", [y], name=name, kind=kind, reason=reason)


def _infer_layer(call: Call) -> Any:
    checks.expect_count(call, 1)
    for name in ("name", "kind", "reason"):
        checks.attribute(call, name)
    return call.args[0].ty


register("quantize", _infer_quantize)
register("dequantize", _infer_dequantize)
register("dequantize_weight", _infer_dequantize_weight)
register("observe", _infer_observe)
register("pad", _infer_pad)
register("add", _infer_add)
register("rescale", _infer_rescale)
register("clip", _infer_clip)
register("concat", _infer_concat)
register("merge_ranges", _infer_merge_ranges)
register("layer", _infer_layer)
