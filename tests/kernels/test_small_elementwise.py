"""Kernels between reals, codes and ranges, against the simulator."""

import functools
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq import ops
from tvm_probq.kernels.small.ranges import measured_pool_kernel
from tvm_probq.simulator import numerics
from tvm_probq.simulator.numerics import Activation

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
MOST = ops.MAX_WIDE_CODE
SHAPES = [(1, 5, 7, 24), (3, 4, 5, 10), (1, 3, 3, 72), (3, 40)]
TARGETS = ["cascadelake", "haswell", "x86-64", "cortex-a76"]


def _reals(rng: Any, shape: tuple[int, ...]) -> Any:
    x = (rng.normal(size=shape) * 2).astype("float32")
    x.flat[:4] = np.nan, np.inf, -np.inf, -0.0
    return x


def _codes(rng: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(0, 256, shape).astype("uint8")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantize_and_back(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...], per_channel: bool
) -> None:
    x, p = _reals(rng, shape), qparams(shape[0], shape[-1] if per_channel else 1)
    [q] = evaluate(ops.quantize, [x, p])
    same_bits(q, numerics.quantize(x, p))
    [back] = evaluate(ops.dequantize, [q, p])
    same_bits(back, numerics.dequantize(q, p))


@pytest.mark.parametrize("mcpu", ["cascadelake", "cortex-a72"])
@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("per_channel", [False, True])
def test_codes_of_16_bits(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: Any, per_channel: bool, mcpu: str
) -> None:
    x, p = _reals(rng, shape), qparams(shape[0], shape[-1] if per_channel else 1, MOST)
    narrow = qparams(shape[0])
    want = numerics.quantize(x, p, "int16")
    width = [0, 0, *([1, 2] * (len(shape) - 2)), *([0, 0] if per_channel else [0, 3])]

    def make(x: Any, p: Any, codes: Any, narrow: Any) -> Any:
        calls = ops.quantize(x, p, qmax=MOST), ops.dequantize(codes, p)
        return relax.Tuple(
            [*calls, ops.rescale(codes, p, narrow), ops.pad(codes, p, pad_width=width)]
        )

    q, back, small, padded = evaluate(make, [x, p, want, narrow], mcpu)
    same_bits(q, want)
    same_bits(back, numerics.dequantize(want, p))
    same_bits(small, numerics.rescale(want, p, narrow))
    pairs = list(zip(width[::2], width[1::2], strict=True))
    same_bits(padded, numerics.pad_zero_point(want, p, pairs))


@pytest.mark.parametrize("mcpu", TARGETS)
@pytest.mark.parametrize("shape", [(1, 3, 9, 11), (2, 4, 5, 5), (1, 10, 6, 7), (1, 1, 8, 8)])
def test_quantize_nchw(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...], mcpu: str
) -> None:
    x = _reals(rng, shape)
    for ranges in {1, shape[1]}:
        p = qparams(shape[0], ranges)
        [q] = evaluate(lambda x, p: ops.quantize(x, p, layout="NCHW"), [x, p], mcpu)
        same_bits(q, numerics.quantize(np.transpose(x, (0, 2, 3, 1)), p))
        p = qparams(shape[0], ranges, MOST)
        [q] = evaluate(lambda x, p: ops.quantize(x, p, layout="NCHW", qmax=MOST), [x, p], mcpu)
        same_bits(q, numerics.quantize(np.transpose(x, (0, 2, 3, 1)), p, "int16"))


@pytest.mark.parametrize("mcpu", TARGETS)
def test_add_and_rescale(evaluate: Any, same_bits: Any, rng: Any, qparams: Any, mcpu: str) -> None:
    shape = (3, 4, 5, 24)
    a, b = _codes(rng, shape), _codes(rng, shape)
    pa, pb, py = qparams(3, 24), qparams(3), qparams(3, 1, 63)
    [y] = evaluate(ops.rescale, [a, pa, py], mcpu)
    same_bits(y, numerics.rescale(a, pa, py))
    for text in ("none", "clip(0.0,inf)", "clip(0.0,2.0)"):
        act = ops.parse_activation(text)
        make = lambda *v, text=text: ops.add(*v, activation=text)  # noqa: E731
        [y] = evaluate(make, [a, pa, b, pb, py], mcpu)
        same_bits(y, numerics.add(a, pa, b, pb, py, act))


@pytest.mark.parametrize(
    "text",
    [
        "hard_swish",
        "hard_sigmoid",
        "leaky(0.1)",
        "clip(-1.0,inf)",
        "none",
        "sigmoid",
        "silu",
        "tanh",
        "gelu",
    ],
)
def test_float_activation(evaluate: Any, same_bits: Any, rng: Any, text: str) -> None:
    x = _reals(rng, (2, 3, 5, 10))
    [y] = evaluate(lambda x: ops.activation(x, kind=text), [x])
    same_bits(y, numerics.activate(x, ops.parse_activation(text)))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_dequantize_weight(evaluate: Any, same_bits: Any, rng: Any, axis: int) -> None:
    codes = rng.integers(-128, 128, (3, 5, 4, 20)).astype("int8")
    scale = rng.random(codes.shape[axis]).astype("float32")
    make = lambda w, s: ops.dequantize_weight(w, s, axis=axis, bits=8)  # noqa: E731
    [w] = evaluate(make, [codes, scale])
    along = scale.reshape([-1 if i == axis else 1 for i in range(4)])
    same_bits(w, codes.astype("float32") * along)


@pytest.mark.parametrize("shape", SHAPES)
def test_observe(evaluate: Any, same_bits: Any, rng: Any, shape: tuple[int, ...]) -> None:
    for x in (
        _reals(rng, shape),
        np.abs(_reals(rng, shape)[..., ::-1]),
        np.zeros(shape, "float32"),
    ):
        [p] = evaluate(lambda x: ops.observe(x, qmax=15), [x])
        same_bits(p, numerics.measure(x, 15))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("width", [(1, 2, 3, 4), (0, 0, 0, 0), (2, 0, 0, 0), (0, 0, 0, 3)])
def test_pad(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, width: Any, per_channel: bool
) -> None:
    q, p = _codes(rng, (3, 4, 5, 10)), qparams(3, 10 if per_channel else 1)
    full = [0, 0, *width, 0, 0]
    [y] = evaluate(lambda q, p: ops.pad(q, p, pad_width=full), [q, p])
    same_bits(y, numerics.pad_zero_point(q, p, list(zip(full[::2], full[1::2], strict=True))))


def test_pad_channels(evaluate: Any, same_bits: Any, rng: Any, qparams: Any) -> None:
    q, p = _codes(rng, (3, 4, 5, 10)), qparams(3)
    full = [0, 0, 1, 1, 0, 2, 1, 5]
    [y] = evaluate(lambda q, p: ops.pad(q, p, pad_width=full), [q, p])
    same_bits(y, numerics.pad_zero_point(q, p, list(zip(full[::2], full[1::2], strict=True))))


@pytest.mark.parametrize("channels", [10, 24, 40, 130])
def test_pooling(evaluate: Any, same_bits: Any, rng: Any, qparams: Any, channels: int) -> None:
    q = _codes(rng, (3, 5, 7, channels))
    for ranges in (1, channels):
        p, y = qparams(3, ranges), qparams(3)
        [found] = evaluate(ops.global_avg_pool, [q, p, y])
        same_bits(found, numerics.global_avg_pool(q, p, y))
        [found] = evaluate(lambda q, p: ops.pool_range(q, p, qmax=255), [q, p])
        same_bits(found, numerics.pool_range(q, p, 255))


@pytest.mark.parametrize("mcpu", TARGETS)
@pytest.mark.parametrize("channels", [1, 10, 24, 130])
def test_average_pooling(evaluate: Any, same_bits: Any, rng: Any, channels: int, mcpu: str) -> None:
    q = _codes(rng, (3, 5, 7, channels))
    rows = np.array([[0, 0, 2, 4], [1, 3, 5, 5]], np.int32)
    columns = np.array([[0, 1, 5], [2, 7, 6]], np.int32)
    [found] = evaluate(ops.avg_pool, [q, rows, columns], mcpu)
    same_bits(found, numerics.avg_pool(q, rows, columns))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activation", ["clip(0.0,inf)", "clip(-1.0,0.5)"])
def test_clip(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...],
    per_channel: bool, activation: str,
) -> None:  # fmt: skip
    q, p = _codes(rng, shape), qparams(shape[0], shape[-1] if per_channel else 1)
    [found] = evaluate(lambda q, p: ops.clip(q, p, activation=activation), [q, p])
    same_bits(found, numerics.clip(q, p, ops.parse_activation(activation)))


@pytest.mark.parametrize("channels", [1, 10, 24, 130])
@pytest.mark.parametrize("batch", [1, 3])
def test_pooling_under_its_own_range(
    run_kernel: Any, same_bits: Any, rng: Any, qparams: Any, batch: int, channels: int
) -> None:
    q = _codes(rng, (batch, 5, 7, channels))
    for ranges in {1, channels}:
        p = qparams(batch, ranges)
        p[0, 0] = np.inf
        kernel = functools.partial(measured_pool_kernel, q.shape, ranges, 63)
        outputs = np.zeros((batch, 3, 1), "float32"), np.zeros((batch, channels), "uint8")
        found, codes = run_kernel(kernel, [q, p], outputs)
        same_bits(found, numerics.pool_range(q, p, 63))
        same_bits(codes, numerics.global_avg_pool(q, p, found))


def test_merge_ranges(evaluate: Any, same_bits: Any, qparams: Any) -> None:
    ranges = [qparams(3), qparams(3, 10), qparams(3, 1, 15)]
    infinite = [r.copy() for r in ranges]
    infinite[1][0, :2, 3] = np.inf, 0.0  # zero times infinity: a NaN that the definition keeps
    for case in (ranges, infinite, ranges[:1]):
        [p] = evaluate(lambda *v: ops.merge_ranges(v, qmax=255), case)
        same_bits(p, numerics.merge_ranges(case, 255))


def test_layer_is_its_input(evaluate: Any, same_bits: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 10)).astype("float32")
    marked = lambda x: ops.activation(ops.layer(x, name="l", kind="k"), kind="none")  # noqa: E731
    same_bits(evaluate(marked, [x])[0], x)


def test_symbolic_batch(evaluate: Any, same_bits: Any, rng: Any, qparams: Any) -> None:
    x, p = _reals(rng, (3, 4, 4, 10)), qparams(3)
    [q] = evaluate(ops.quantize, [x, p], batch=tvm.tirx.Var("n", "int64"))
    same_bits(q, numerics.quantize(x, p))


def test_plain_clip_has_no_range() -> None:
    assert ops.parse_activation("clip(-inf,inf)") == Activation("clip")


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(58, 58), (3, 1, 70), (200,)])
def test_concat(evaluate: Any, same_bits: Any, rng: Any, sizes: tuple[int, ...], axis: int) -> None:
    shapes = [[2, 4, 5, 10] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    parts = [_codes(rng, tuple(shape)) for shape in shapes]
    [y] = evaluate(lambda *parts: ops.concat(parts, axis=axis), parts)
    same_bits(y, np.concatenate(parts, axis))
