"""Every operator prints as ``R.probq.x``, parses back and infers its type."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

from tvm_probq import ops


def _const(*shape: int, dtype: str = "float32") -> Any:
    return relax.const(np.ones(shape, dtype))


def _build(shapes: list[tuple[tuple[int, ...], str]], body: Callable[..., Any]) -> Any:
    params = [relax.Var(f"x{i}", relax.TensorType(s, d)) for i, (s, d) in enumerate(shapes)]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(body(*params))
        builder.emit_func_output(out)
    return builder.finalize()


IMAGE, QP = ((2, 4, 4, 8), "uint8"), ((2, 3, 1), "float32")
ACC, REAL, STAT = ((2, 4, 4, 8), "int32"), ((2, 4, 4, 8), "float32"), ((2, 2, 8), "int32")
HEADS = ((2, 3, 4, 8), "uint8")
WORDS = ((2, 4, 4, 8), "int16")
PATCH, FIX = ((2, 3, 2), "float32"), ((2, 8), "float32")


def _layer_constants() -> list[Any]:
    return [_const(8), _const(8, dtype="int32"), _const(8)]


def _fit(groups: int = 1) -> list[Any]:
    return [_const(2, groups), _const(2), _const(3)]


CASES: dict[str, tuple[list[Any], Callable[..., Any], tuple[int, ...], str]] = {
    "quantize": ([REAL, QP], ops.quantize, (2, 4, 4, 8), "uint8"),
    "quantize_nchw": (
        [((2, 8, 4, 5), "float32"), QP],
        lambda x, p: ops.quantize(x, p, layout="NCHW"),
        (2, 4, 5, 8),
        "uint8",
    ),
    "dequantize": ([IMAGE, QP], ops.dequantize, (2, 4, 4, 8), "float32"),
    "quantize_wide": (
        [REAL, QP], lambda x, p: ops.quantize(x, p, qmax=20000), (2, 4, 4, 8), "int16",
    ),
    "dequantize_wide": ([WORDS, QP], ops.dequantize, (2, 4, 4, 8), "float32"),
    "rescale_wide": ([WORDS, QP, QP], ops.rescale, (2, 4, 4, 8), "uint8"),
    "pad_wide": (
        [WORDS, QP],
        lambda q, p: ops.pad(q, p, pad_width=[0, 0, 1, 2, 0, 1, 0, 0]),
        (2, 7, 5, 8),
        "int16",
    ),
    "requantize_wide": (
        [ACC, QP, QP, WORDS, QP],
        lambda acc, x, y, r, rq: ops.requantize(
            acc, x, y, *_layer_constants(), None, (r, rq), qmax=4095
        ),
        (2, 4, 4, 8),
        "int16",
    ),
    "dequantize_weight": (
        [((3, 3, 4, 8), "int8")],
        lambda w: ops.dequantize_weight(w, _const(8), axis=3, bits=4),
        (3, 3, 4, 8),
        "float32",
    ),
    "concat": (
        [IMAGE, ((2, 4, 3, 8), "uint8"), IMAGE],
        lambda *parts: ops.concat(parts, axis=2),
        (2, 4, 11, 8),
        "uint8",
    ),
    "resize": (
        [IMAGE, ((2, 5), "int32"), ((5,), "float32"), ((2, 7), "int32"), ((7,), "float32")],
        ops.resize,
        (2, 5, 7, 8),
        "uint8",
    ),
    "avg_pool": (
        [IMAGE, ((2, 5), "int32"), ((2, 7), "int32")],
        ops.avg_pool,
        (2, 5, 7, 8),
        "uint8",
    ),
    "clip": (
        [IMAGE, QP],
        lambda q, p: ops.clip(q, p, activation="clip(0.0,6.0)"),
        (2, 4, 4, 8),
        "uint8",
    ),
    "observe": ([REAL], lambda x: ops.observe(x, qmax=255), (2, 3, 1), "float32"),
    "sums": ([IMAGE], lambda x: ops.sums(x, strides=(2, 2)), (2, 2, 8), "int32"),
    "patch_sums": (
        [IMAGE, QP],
        lambda x, p: ops.patch_sums(x, p, kernel=(3, 3), pads=(1, 1, 1, 1), groups=2, gamma=2),
        (2, 3, 2),
        "float32",
    ),
    "surrogate_basis": (
        [STAT, QP, STAT, QP],
        lambda s, p, r, rp: ops.surrogate(
            s, p, [_const(8, 4, dtype="int8"), _const(4, 4), _const(2, 4), _const(2), _const(8)],
            *_fit(), (r, rp),
            kind="moments_tensor", count=16, residual_count=9, activation="clip(0.0,6.0)",
        ),
        (2, 3, 1),
        "float32",
    ),
    "surrogate_channel": (
        [STAT, QP],
        lambda s, p: ops.surrogate(
            s, p, [_const(8, 5), _const(8, 5), _const(5)], *_fit(5), kind="moments_channel", count=4
        ),
        (2, 3, 5),
        "float32",
    ),
    "surrogate_diagonal": (
        [STAT, QP],
        lambda s, p: ops.surrogate(
            s, p, [_const(8)] * 3, *_fit(), kind="moments_diagonal", count=4,
            activation="clip(-inf,inf)",
        ),
        (2, 3, 1),
        "float32",
    ),
    "surrogate_iid": (
        [PATCH, QP],
        lambda s, p: ops.surrogate(
            s, p, [_const(6, 2)], *_fit(), kind="iid", count=4, activation="hard_swish"
        ),
        (2, 3, 1),
        "float32",
    ),
    "surrogate_add": (
        [STAT, QP, STAT, QP],
        lambda s, p, r, rp: ops.surrogate(s, p, [], *_fit(), (r, rp), kind="add", count=4),
        (2, 3, 1),
        "float32",
    ),
    "surrogate_matmul": (
        [STAT, QP, STAT, QP],
        lambda s, p, r, rp: ops.surrogate(
            s, p, [_const(1)], *_fit(), (r, rp), kind="matmul", count=4
        ),
        (2, 3, 1),
        "float32",
    ),
    "correction": (
        [STAT, QP],
        lambda s, p: ops.correction(
            s, p, _const(4, 6, dtype="int8"), _const(4), _const(8, 4, dtype="int8"), count=9
        ),
        (2, 6),
        "float32",
    ),
    "correction_diagonal": (
        [STAT, QP],
        lambda s, p: ops.correction(s, p, _const(8), count=9),
        (2, 8),
        "float32",
    ),
    "pad": (
        [IMAGE, QP],
        lambda x, p: ops.pad(x, p, pad_width=[0, 0, 1, 2, 3, 4, 0, 0]),
        (2, 7, 11, 8),
        "uint8",
    ),
    "dequantize_accumulator": (
        [ACC, QP],
        lambda a, p: ops.dequantize_accumulator(a, p, *_layer_constants(), activation="hard_swish"),
        (2, 4, 4, 8),
        "float32",
    ),
    "requantize": (
        [ACC, QP, QP, FIX, IMAGE, QP],
        lambda a, p, y, c, r, rp: ops.requantize(
            a, p, y, *_layer_constants(), c, (r, rp), activation="clip(0.0,inf)"
        ),
        (2, 4, 4, 8),
        "uint8",
    ),
    "measure": (
        [ACC, QP, IMAGE, QP],
        lambda a, p, r, rp: ops.measure(a, p, *_layer_constants(), None, (r, rp), qmax=15),
        (2, 3, 1),
        "float32",
    ),
    "multiply": (
        [IMAGE, QP, IMAGE, QP, QP],
        lambda *v: ops.multiply(*v, activation="clip(0.0,6.0)"), (2, 4, 4, 8), "uint8",
    ),
    "multiply_by_a_gate": (
        [IMAGE, QP, ((2, 1, 1, 8), "uint8"), QP, QP], ops.multiply, (2, 4, 4, 8), "uint8",
    ),
    "matmul": (
        [HEADS, QP, ((2, 3, 8, 5), "uint8"), QP, QP], ops.matmul, (2, 3, 4, 5), "uint8",
    ),
    "matmul_to_reals": (
        [HEADS, QP, ((2, 3, 8, 5), "uint8"), QP], ops.matmul, (2, 3, 4, 5), "float32",
    ),
    "product_range": (
        [IMAGE, QP, ((2, 1, 1, 8), "uint8"), QP],
        lambda *v: ops.product_range(*v, qmax=15), (2, 3, 1), "float32",
    ),
    "add": (
        [IMAGE, QP, IMAGE, QP, QP],
        lambda a, ap, b, bp, y: ops.add(a, ap, b, bp, y, activation="clip(0.0,6.0)"),
        (2, 4, 4, 8),
        "uint8",
    ),
    "rescale": ([IMAGE, QP, QP], ops.rescale, (2, 4, 4, 8), "uint8"),
    "pack_codes": ([IMAGE], ops.pack_codes, (2, 4, 4, 4), "uint8"),
    "unpack_codes": ([IMAGE], ops.unpack_codes, (2, 4, 4, 16), "uint8"),
    "merge_ranges": (
        [QP, ((2, 3, 8), "float32")],
        lambda a, b: ops.merge_ranges([a, b], qmax=255),
        (2, 3, 1),
        "float32",
    ),
    "global_avg_pool": ([IMAGE, QP, QP], ops.global_avg_pool, (2, 8), "uint8"),
    "pool_range": ([IMAGE, QP], lambda x, p: ops.pool_range(x, p, qmax=255), (2, 3, 1), "float32"),
    "activation": (
        [REAL],
        lambda x: ops.activation(x, kind="clip(0.0,inf)"),
        (2, 4, 4, 8),
        "float32",
    ),
    "layer": (
        [REAL],
        lambda x: ops.layer(x, name="conv 1", kind="conv2d", reason='a "reason"'),
        (2, 4, 4, 8),
        "float32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_prints_parses_and_infers(name: str) -> None:
    shapes, body, shape, dtype = CASES[name]
    mod = _build(shapes, body)
    result = mod["main"].ret_ty
    assert [int(d) for d in result.shape.values] == list(shape)
    assert str(result.dtype) == dtype
    text = mod.script(show_meta=True)
    assert "R.probq." in text
    assert tvm_ffi.structural_equal(mod, tvm.script.from_source(text))


def test_every_operator_is_covered() -> None:
    registered = {n.removeprefix("relax.probq.") for n in map(str, tvm.ir.Op.list_op_names())}
    ours = {n for n in registered if n in ops.__all__}
    printed = set()
    for shapes, body, _, _ in CASES.values():
        text = _build(shapes, body).script()
        printed |= {n for n in ours if f"R.probq.{n}(" in text}
    assert printed == ours


def test_registering_twice_changes_nothing() -> None:
    importlib.reload(importlib.import_module("tvm_probq.ops.tensor_ops"))
    importlib.reload(importlib.import_module("tvm_probq.ops.surrogate_op"))
    test_prints_parses_and_infers("quantize")
    test_prints_parses_and_infers("surrogate_basis")


def test_symbolic_batch_is_kept() -> None:
    n = tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((n, 4, 4, 8), "float32"))
    p = relax.Var("p", relax.TensorType((n, 3, 1), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, p]):
        out = builder.emit(ops.sums(builder.emit(ops.quantize(x, p)), strides=(1, 1)))
        builder.emit_func_output(out)
    assert builder.finalize()["main"].ret_ty.shape.values[0].same_as(n)
