"""Operators that predict: sums of a layer's input, and the correction of its weights' rounding."""

from collections.abc import Sequence
from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.packing_ops import packed_attrs
from tvm_probq.ops.registry import make_call, register


def sums(q: Expr, *, strides: Sequence[int] = (1, 1), packed: bool = False) -> Call:
    """Add up codes and squared codes over positions.

    Parameters
    ----------
    q : relax.Expr
        uint8 ``[N, H, W, C]`` or ``[N, C]``.
    strides : sequence of int
        Of the rows and columns that are read.  The sums of squares are int32: the caller keeps the
        number of positions below 33026.
    packed : bool
        Whether `q` holds bytes ``[..., C / 2]`` of two codes, see `pack_codes`.

    Returns
    -------
    Call
        int32 ``[N, 2, C]``: sums of the codes and of their squares.
    """
    return make_call("sums", [q], strides=[int(s) for s in strides], **packed_attrs(packed))


def _infer_sums(call: Call) -> Any:
    checks.expect_count(call, 1)
    _expect_numbers(call, "strides", 2, 1)
    dims = checks.dims_of(call, 0, "q", "uint8", 2, 4)
    return checks.tensor_type([dims[0], 2, checks.channels_in(call, dims)], "int32")


def patch_sums(
    q: Expr, qparams: Expr, *, kernel: Sequence[int], strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1,
    gamma: int = 1, packed: bool = False,
) -> Call:  # fmt: skip
    """Add up codes and squared codes over receptive fields.

    Parameters
    ----------
    q : relax.Expr
        uint8 ``[N, H, W, C]``.
    qparams : relax.Expr
        float32 ``[N, 3, G]``.
    kernel, strides, dilation : sequence of int
        Height and width of each.
    pads : sequence of int
        Top, left, bottom, right.
    groups : int
        Channel groups of the convolution.
    gamma : int
        Every `gamma`-th row and column of output positions is read.
    packed : bool
        Whether `q` holds bytes ``[N, H, W, C / 2]`` of two codes, see `pack_codes`.

    Returns
    -------
    Call
        float32 ``[N, 3, groups]``, see :func:`tvm_probq.simulator.surrogates.patch_sums`.
    """
    pairs = {"kernel": kernel, "strides": strides, "pads": pads, "dilation": dilation}
    lists = {name: [int(v) for v in values] for name, values in pairs.items()}
    attrs: dict[str, Any] = {**lists, "groups": groups, "gamma": gamma, **packed_attrs(packed)}
    return make_call("patch_sums", [q, qparams], **attrs)


def _infer_patch_sums(call: Call) -> Any:
    checks.expect_count(call, 2)
    checks.positive(call, "groups", "gamma")
    for name, length, least in (
        ("kernel", 2, 1),
        ("strides", 2, 1),
        ("dilation", 2, 1),
        ("pads", 4, 0),
    ):
        _expect_numbers(call, name, length, least)
    dims = checks.dims_of(call, 0, "q", "uint8", 4)
    channels = checks.channels_in(call, dims)
    checks.expect_qparams(call, 1, "qparams", dims[0], channels)
    groups = checks.attribute(call, "groups")
    if int(channels) % groups:
        raise checks.fail(call, f"{channels} channels do not divide into {groups} groups")
    return checks.tensor_type([dims[0], 3, groups], "float32")


def _expect_numbers(call: Call, name: str, length: int, least: int) -> None:
    values = [int(v) for v in checks.attribute(call, name)]
    if len(values) != length or min(values) < least:
        why = f"it must hold {length} numbers of at least {least}"
        raise checks.fail(call, f"{name} is {values}", why)


def correction(
    stat: Expr, x_qparams: Expr, matrix: Expr, scale: Expr | None = None,
    basis: Expr | None = None, *, count: int,
) -> Call:  # fmt: skip
    """Predict the shift by the rounding of a layer's weights, from the input's own means.

    Parameters
    ----------
    stat : relax.Expr
        int32 ``[N, 2, IC]`` sums of the layer's input, see :func:`sums`.
    x_qparams : relax.Expr
        float32 ``[N, 3, G]`` of the layer's input.
    matrix : relax.Expr
        int8 ``[R, OC]``, or float32 ``[C]`` for a depthwise layer.
    scale : relax.Expr, optional
        float32 ``[R]`` of the rows of an int8 matrix.
    basis : relax.Expr, optional
        int8 ``[IC, R]``; without it the matrix is ``[IC, OC]``.
    count : int
        Positions summed.

    Returns
    -------
    Call
        float32 ``[N, OC]``.
    """
    given = [stat, x_qparams, matrix, scale, basis]
    tensors = [tensor for tensor in given if tensor is not None]
    return make_call("correction", tensors, count=count)


def _infer_correction(call: Call) -> Any:
    given = len(call.args)
    if given not in (3, 4, 5):
        raise checks.fail(call, f"{given} arguments were given", "it takes 3, 4 or 5")
    checks.positive(call, "count")
    batch, rows = expect_sums(call, 0, 1, "stat", "x_qparams")
    if given == 3:
        matrix = checks.dims_of(call, 2, "matrix", "float32", 1)
        checks.expect_dims(call, "matrix", matrix, rows)
        return checks.tensor_type([batch, rows], "float32")
    if given == 5:
        basis = checks.dims_of(call, 4, "basis", "int8", 2)
        checks.expect_dims(call, "basis", basis, rows, basis[1])
        rows = basis[1]
    matrix = checks.dims_of(call, 2, "matrix", "int8", 2)
    checks.expect_dims(call, "matrix", matrix, rows, matrix[1])
    checks.expect_dims(call, "scale", checks.dims_of(call, 3, "scale", "float32", 1), rows)
    return checks.tensor_type([batch, matrix[1]], "float32")


def expect_sums(call: Call, index: int, qparams_index: int, name: str, qparams_name: str) -> Any:
    """Check integer sums ``[N, 2, C]`` with their parameters; gives N and C."""
    dims = checks.dims_of(call, index, name, "int32", 3)
    checks.expect_dims(call, name, dims, dims[0], 2, dims[2])
    checks.expect_qparams(call, qparams_index, qparams_name, dims[0], dims[2])
    return dims[0], dims[2]


register("sums", _infer_sums)
register("patch_sums", _infer_patch_sums)
register("correction", _infer_correction)
