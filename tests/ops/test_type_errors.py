"""Arguments that do not fit are refused with a message that names operator and argument."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.ir import Call, Op

from tvm_probq import ops
from tvm_probq.errors import KernelError
from tvm_probq.ops import AccumulatorArgs, surrogate_args


def _var(*shape: int, dtype: str = "float32") -> Any:
    return relax.Var("x", relax.TensorType(shape, dtype))


def _const(*shape: int, dtype: str = "float32") -> Any:
    return relax.const(np.ones(shape, dtype))


def _u8(*shape: int) -> Any:
    return _var(*shape, dtype="uint8")


def _i32(*shape: int) -> Any:
    return _var(*shape, dtype="int32")


def _i8(*shape: int) -> Any:
    return _const(*shape, dtype="int8")


def _surrogate(kind: str, constants: list[Any], groups: int = 1, **more: Any) -> Any:
    stat = more.pop("stat", _i32(2, 2, 8))
    fit = [_const(2, groups), _const(2), _const(1)]
    return ops.surrogate(stat, _var(2, 3, 1), constants, *fit, kind=kind, count=4, **more)


QP = _var(2, 3, 1)
LAYER = [_const(8), _const(8, dtype="int32"), _const(8)]
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "dtype": (lambda: ops.quantize(_u8(2, 8), QP), "x is uint8: it must be float32"),
    "rank": (lambda: ops.quantize(_var(2, 8), QP, layout="NCHW"), "x has rank 2"),
    "layout": (lambda: ops.quantize(_var(2, 8), QP, layout="CNHW"), "layout is 'CNHW'"),
    "rows": (lambda: ops.dequantize(_u8(2, 8), _var(2, 2, 1)), "qparams has the shape"),
    "batch": (lambda: ops.dequantize(_u8(2, 8), _var(1, 3, 1)), "must be .2, 3, 1"),
    "ranges": (lambda: ops.dequantize(_u8(2, 8), _var(2, 3, 4)), "holds 4 ranges"),
    "qmax": (lambda: ops.merge_ranges([QP], qmax=256), "codes end at 255"),
    "wide qmax": (lambda: ops.observe(_var(2, 8), qmax=32768), "codes end at 32767"),
    "wide codes": (lambda: ops.quantize(_var(2, 8), QP, qmax=32768), "codes end at 32767"),
    "wide pool": (lambda: ops.sums(_var(2, 8, dtype="int16"), strides=[1, 1]), "q is int16"),
    "wide add": (lambda: ops.add(_var(2, 8, dtype="int16"), QP, _u8(2, 8), QP, QP), "a is int16"),
    "words": (lambda: ops.dequantize(_i32(2, 8), QP), "q is int32: it must be uint8"),
    "axis": (
        lambda: ops.dequantize_weight(_var(4, 8, dtype="int8"), _const(8), axis=2, bits=8),
        "axis",
    ),
    "pad length": (lambda: ops.pad(_u8(2, 8), QP, pad_width=[0, 0]), "pad_width"),
    "pad batch": (lambda: ops.pad(_u8(2, 8), QP, pad_width=[1, 0, 0, 0]), "pad_width"),
    "pad channel": (lambda: ops.pad(_u8(2, 8), _var(2, 3, 8), pad_width=[0, 0, 1, 0]), "channel"),
    "add shapes": (lambda: ops.add(_u8(2, 8), QP, _u8(2, 7), QP, QP), "b has the shape"),
    "add activation": (
        lambda: ops.add(_u8(2, 8), QP, _u8(2, 8), QP, QP, activation="hard_swish"),
        "only a clip",
    ),
    "multiply shapes": (
        lambda: ops.multiply(_u8(2, 4, 4, 8), QP, _u8(2, 1, 4, 8), QP, QP),
        "b has the shape",
    ),
    "gate channels": (
        lambda: ops.multiply(_u8(2, 4, 4, 8), QP, _u8(2, 1, 1, 7), QP, QP),
        "must be .2, 1, 1, 8",
    ),
    "multiply activation": (
        lambda: ops.multiply(_u8(2, 8), QP, _u8(2, 8), QP, QP, activation="hard_swish"),
        "only a clip",
    ),
    "matmul heads": (
        lambda: ops.matmul(_u8(2, 3, 4, 8), QP, _u8(2, 1, 8, 5), QP, QP),
        "must be .2, 3, 8, 5",
    ),
    "matmul length": (
        lambda: ops.matmul(_u8(2, 3, 4, 8), QP, _u8(2, 3, 7, 5), QP, QP),
        "must be .2, 3, 8, 5",
    ),
    "matmul rank": (lambda: ops.matmul(_u8(2, 4, 8), QP, _u8(2, 8, 5), QP, QP), "rank 3"),
    "matmul of one": (lambda: _surrogate("matmul", [_const(1)]), "no second operand"),
    "product qmax": (
        lambda: ops.product_range(_u8(2, 8), QP, _u8(2, 8), QP, qmax=0),
        "at least 1",
    ),
    "sums": (lambda: ops.sums(_u8(2, 8), strides=(1, 0)), "strides is"),
    "groups": (lambda: ops.patch_sums(_u8(2, 4, 4, 8), QP, kernel=(3, 3), groups=3), "3 groups"),
    "pads": (lambda: ops.patch_sums(_u8(2, 4, 4, 8), QP, kernel=(3, 3), pads=(1, 1)), "pads is"),
    "kind": (lambda: _surrogate("best", []), "kind is 'best'"),
    "constants": (lambda: _surrogate("moments_tensor", []), "0 constants were given"),
    "constant shape": (lambda: _surrogate("moments_diagonal", [_const(7)] * 3), "weights has"),
    "per channel": (lambda: _surrogate("add", [], 8), "add predicts one"),
    "per channel residual": (
        lambda: _surrogate("moments_diagonal", [_const(8)] * 3, 8, residual=(_i32(2, 2, 8), QP)),
        "residual with ranges per channel",
    ),
    "spread": (lambda: _surrogate("moments_diagonal", [_const(8)] * 3, 7), "there are 8 channels"),
    "matrix": (
        lambda: ops.correction(_i32(2, 2, 8), QP, _i8(7, 5), _const(8), count=3),
        "matrix has",
    ),
    "matrix scale": (
        lambda: ops.correction(_i32(2, 2, 8), QP, _i8(8, 5), _const(5), count=3),
        "scale has",
    ),
    "depthwise matrix": (
        lambda: ops.correction(_i32(2, 2, 8), QP, _const(7), count=3),
        "matrix has",
    ),
    "basis": (
        lambda: ops.correction(_i32(2, 2, 8), QP, _i8(4, 5), _const(4), _i8(7, 4), count=3),
        "basis has",
    ),
    "bare correction": (
        lambda: Call(Op.get("relax.probq.correction"), [_i32(2, 2, 8), QP]),
        "2 arguments",
    ),
    "accumulator": (lambda: ops.requantize(_var(2, 8), QP, QP, *LAYER), "acc is float32"),
    "weight sum": (lambda: ops.measure(_i32(2, 8), QP, LAYER[0], LAYER[0], LAYER[2]), "weight_sum"),
    "correction": (
        lambda: ops.requantize(_i32(2, 8), QP, QP, *LAYER, _var(2, 7)),
        "correction has the shape .2, 7",
    ),
    "residual": (
        lambda: ops.requantize(_i32(2, 8), QP, QP, *LAYER, None, (_u8(2, 7), QP)),
        "residual has the shape",
    ),
    "merge": (lambda: ops.merge_ranges([], qmax=255), "is missing"),
    "concat shapes": (
        lambda: ops.concat([_u8(2, 4, 8), _u8(2, 5, 8)], axis=2),
        "parts.1. has the shape",
    ),
    "concat axis": (lambda: ops.concat([_u8(2, 4)] * 2, axis=0), "axis is 0"),
    "concat nothing": (lambda: ops.concat([], axis=1), "is missing"),
    "resize weights": (
        lambda: ops.resize(_u8(2, 4, 4, 8), _i32(2, 5), _var(4), _i32(2, 7), _var(7)),
        "row_weights has the shape",
    ),
    "resize taps": (
        lambda: ops.resize(_u8(2, 4, 4, 8), _i32(3, 5), _var(5), _i32(2, 7), _var(7)),
        "rows has the shape",
    ),
    "resize outside": (
        lambda: ops.resize(
            _u8(2, 4, 1, 8), _i32(2, 5), _var(5), _const(2, 7, dtype="int32"), _var(7)
        ),
        "a column is outside",
    ),
    "window outside": (
        lambda: ops.avg_pool(_u8(2, 4, 4, 8), _i32(2, 2), relax.const(np.int32([[0], [5]]))),
        "a window of columns is empty or outside",
    ),
    "empty window": (
        lambda: ops.avg_pool(_u8(2, 4, 4, 8), relax.const(np.int32([[2], [2]])), _i32(2, 2)),
        "a window of rows is empty or outside",
    ),
    "clip": (
        lambda: ops.clip(_u8(2, 8), QP, activation="sigmoid"),
        "only a clip can be done on codes",
    ),
    "pool": (lambda: ops.global_avg_pool(_u8(2, 8), QP, QP), "x has rank 2"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    make, message = CASES[name]
    call = make()
    with pytest.raises(KernelError, match=message) as caught:
        relax.BlockBuilder().normalize(call)
    assert "probq." in str(caught.value)


def test_unknown_activation_is_refused_at_once() -> None:
    with pytest.raises(KernelError, match="is no activation"):
        ops.requantize(_i32(2, 8), QP, QP, *LAYER, activation="relu")


def test_accumulator_args_are_named() -> None:
    acc, fix, res = _i32(2, 8), _var(2, 8), _u8(2, 8)
    call = ops.requantize(acc, QP, QP, *LAYER, fix, (res, QP), activation="clip(0.0,6.0)")
    args = AccumulatorArgs.from_call(call)
    assert args.acc.same_as(acc)
    assert args.correction is not None
    assert args.correction.same_as(fix)
    assert args.residual is not None
    assert args.residual.same_as(res)
    assert args.activation == "clip(0.0,6.0)"
    bare = AccumulatorArgs.from_call(ops.measure(acc, QP, *LAYER))
    assert bare.y_qparams is bare.correction is bare.residual is None
    assert bare.bias.same_as(LAYER[2])


def test_surrogate_args_are_named() -> None:
    residual = (_i32(2, 2, 8), QP)
    call = _surrogate("moments_diagonal", [_const(8)] * 3, residual=residual, residual_count=7)
    args = surrogate_args(call)
    assert len(args.constants) == 3
    assert args.residual is not None
    assert args.residual[0].same_as(residual[0])
    assert (args.kind, args.count, args.residual_count) == ("moments_diagonal", 4, 7)
    assert args.levels.ty.ndim == args.rule.ty.ndim == 1
