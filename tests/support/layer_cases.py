"""Layers for kernel tests: shapes of all kinds, random arguments, and what NumPy makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tvm_probq.kernels.arguments import argument_shapes
from tvm_probq.kernels.layer import pack_weights, packed_shape
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype
from tvm_probq.quantization.accumulator import largest_code
from tvm_probq.simulator import numerics

MOST = 32767  # code of 16 bits


def layer(
    h: int, w: int, ic: int, oc: int, k: int = 1, s: int = 1, p: Any = 0, **kw: Any
) -> LayerSpec:
    spec = LayerSpec(
        batch=1, height=h, width=w, in_channels=ic, out_channels=oc, kernel=(k, k), strides=(s, s),
        pads=(p,) * 4 if isinstance(p, int) else p, dilation=(1, 1), groups=1, weight_bits=8,
        activation="none", output="codes", correction=False, residual=False, in_ranges=1,
        out_ranges=1,
    )  # fmt: skip
    return replace(spec, **kw)


def depthwise(
    h: int, w: int, c: int, k: int = 3, s: int = 1, p: Any = None, **kw: Any
) -> LayerSpec:
    return layer(h, w, c, c, k, s, k // 2 if p is None else p, groups=c, **kw)


def dense(ic: int, oc: int, **kw: Any) -> LayerSpec:
    return layer(1, 1, ic, oc, flat=True, **kw)


DENSE = [
    layer(8, 8, 64, 64, 3, p=1),
    layer(16, 16, 32, 32, 3, p=1, residual=True),
    layer(32, 32, 16, 16, 3, p=1, activation="clip(0,inf)"),
    layer(24, 24, 3, 24, 3, 2, (0, 0, 1, 1), activation="clip(0,6)"),
    layer(30, 30, 3, 24, 7, 2, 3),
    layer(14, 14, 24, 48),
    layer(13, 13, 24, 48),
    layer(28, 28, 64, 64, 1, 2),
    layer(9, 7, 10, 21),
    layer(9, 7, 10, 21, 1, 2),
    layer(6, 6, 16, 32, 3, p=1, dilation=(2, 2)),
    layer(13, 11, 24, 40, 3, 2, (1, 2, 0, 1), batch=3, residual=True, correction=True),
    layer(17, 23, 20, 16, 5, 2, 2, residual=True),
    layer(4, 1200, 24, 16, 3, p=1),
    layer(97, 3, 8, 8, kernel=(3, 1), pads=(1, 0, 1, 0), strides=(1, 2)),
    layer(1, 1, 8, 8, 3, p=1),
    dense(37, 10, batch=3),
    dense(64, 1000),
    dense(65, 17 * 16, correction=True),
]
TILED = [  # shapes that AMX cuts in odd ways
    layer(7, 7, 64, 33, 3, p=1),
    layer(7, 7, 184, 48, residual=True),
    layer(14, 14, 50, 24, 3, 2, 1),
    layer(14, 14, 72, 40, 1, 2),
    layer(37, 1, 68, 16),
    layer(127, 1, 16, 16),
    layer(2, 2, 260, 20, batch=3, correction=True),
    layer(33, 33, 3, 16, 5, 1, 2),
    layer(7, 7, 64, 128, 3, p=1, residual=True, batch=2),  # gathered, and so those that follow
    layer(14, 15, 64, 160, 3, 2, (0, 1, 1, 0), correction=True),
    layer(13, 14, 128, 136, 1, 2),
    layer(11, 12, 64, 128, 5, 3, 2),
    layer(3, 8, 64, 128, 3, p=1),
    layer(7, 7, 2048, 20),  # sums of many products
    layer(6, 14, 256, 48, 3, p=1),
]
GROUPED = [
    layer(8, 8, 20, 40, 3, p=1, groups=2, residual=True),
    layer(8, 8, 12, 36, 3, p=1, groups=4, batch=2),
    layer(5, 5, 30, 30, 3, p=1, groups=15),
    layer(7, 9, 6, 12, 3, p=1, groups=6),
    layer(8, 8, 32, 32, 3, p=1, groups=2, dilation=(1, 2)),
]
DEPTHWISE = [
    depthwise(14, 14, 48),
    depthwise(15, 15, 24, 3, 2, (0, 0, 1, 1), activation="clip(0,6)"),
    depthwise(9, 9, 10, residual=True),
    depthwise(12, 12, 33, in_ranges=33, batch=2, correction=True),
    depthwise(9, 9, 24, 5, 2, (1, 1, 2, 2), in_ranges=24, batch=3),
    depthwise(9, 9, 48, 7),
    depthwise(20, 20, 16, 7, 2),
    depthwise(12, 12, 16, 5, 3),
    depthwise(70, 70, 24),
    depthwise(5, 300, 16),
    depthwise(8, 8, 24, dilation=(2, 3), pads=(2, 3, 2, 3)),
    depthwise(9, 9, 32, p=0, residual=True),
]
NARROW = [
    layer(7, 7, 17, 24, 3, p=1, weight_bits=4),
    layer(14, 14, 32, 48, weight_bits=4),
    layer(8, 8, 12, 24, 3, p=1, groups=2, weight_bits=4),
    dense(96, 40, weight_bits=4, batch=2),
    depthwise(11, 13, 20, in_ranges=20, out_ranges=20, weight_bits=4),
    depthwise(9, 9, 32, p=0, weight_bits=4),
    depthwise(9, 9, 24, 5, 2, weight_bits=4),
]
SMALL = [  # weights whose products fit 16 bits in pairs
    layer(8, 8, 64, 64, 3, p=1, small_weights=True),
    layer(13, 11, 24, 40, 3, 2, (1, 2, 0, 1), batch=3, residual=True, small_weights=True),
    layer(9, 7, 10, 21, small_weights=True),
    layer(30, 30, 3, 24, 7, 2, 3, small_weights=True),
    layer(8, 8, 12, 36, 3, p=1, groups=4, batch=2, small_weights=True),
    layer(6, 6, 16, 32, 3, p=1, dilation=(2, 2), small_weights=True),
    dense(37, 10, batch=3, small_weights=True),
    depthwise(14, 14, 48, small_weights=True),
    depthwise(12, 12, 33, in_ranges=33, batch=2, small_weights=True),
    depthwise(9, 9, 24, 5, 2, small_weights=True),
]
WIDE = [  # depthwise layers whose channels are split into tasks
    depthwise(20, 60, 192),
    depthwise(20, 60, 144, 5, residual=True, batch=2),
    depthwise(30, 40, 96, 7, weight_bits=4),
]
TAILS = [
    layer(7, 7, 16, 24, 3, p=1, output="int32", batch=2),
    layer(7, 7, 16, 24, 3, p=1, output="float32", activation="hard_swish", residual=True),
    layer(7, 7, 16, 32, activation="hard_swish", batch=2, out_ranges=32),
    layer(7, 7, 16, 24, activation="hard_sigmoid", out_ranges=24, correction=True),
    layer(7, 7, 16, 32, activation="leaky(0.1)", residual=True, correction=True),
    layer(9, 9, 24, 40, 3, p=1, activation="leaky(0.25)", batch=2, out_ranges=40),
    layer(7, 7, 16, 24, output="float32", activation="leaky(0.1)"),
    depthwise(9, 9, 24, activation="leaky(0.1)"),
    layer(7, 7, 16, 32, 3, p=1, activation="silu", correction=True),
    layer(7, 7, 16, 24, activation="gelu", batch=2, out_ranges=24, residual=True),
    layer(7, 7, 16, 24, output="float32", activation="sigmoid"),
    depthwise(9, 9, 24, activation="silu"),
    depthwise(9, 9, 24, output="float32", activation="gelu"),
    dense(40, 24, activation="tanh"),
    layer(7, 7, 16, 24, activation="clip(-inf,3)", out_ranges=24, residual=True),
    layer(7, 7, 16, 16, output="float32", activation="clip(-1,inf)", correction=True),
    depthwise(9, 9, 48, 5, output="int32"),
    depthwise(9, 9, 16, output="float32", activation="hard_swish"),
    depthwise(9, 9, 8, activation="clip(-0.5,0.5)", out_ranges=8),
    dense(64, 100, output="int32"),
    dense(64, 10, output="float32"),
]
PACKED = [  # weights whose codes share bytes
    replace(spec, weight_bits=bits)
    for bits in (6, 4, 2)
    for spec in (
        *DENSE[:4], *DENSE[8:12], *DENSE[15:], *TILED[1:4], *TILED[6:9], *GROUPED[:3], TAILS[0],
        dense(64, 48), dense(128, 272, residual=True), layer(1, 9, 32, 24), layer(2, 2, 64, 16, 2),
    )
]  # fmt: skip
MULTIPLIED = [  # weights with a multiplier for every group of inputs
    replace(spec, weight_bits=bits, weight_group=group)
    for bits, group in ((4, 32), (6, 64), (2, 32), (4, 128))
    for spec in (
        layer(9, 7, 160, 24, 3, p=1), layer(14, 14, 144, 48, residual=True),
        layer(7, 7, 131, 33, 3, 2, 1, correction=True), layer(5, 5, 264, 20, 3, p=1, groups=2),
        layer(7, 7, 150, 40, small_weights=True), layer(7, 7, 256, 64, 3, p=1, batch=2),
        dense(256, 48, batch=2), dense(384, 272, residual=True), dense(200, 37),
        layer(1, 9, 256, 24), layer(2, 2, 192, 16, 2), dense(256, 16, output="int32"),
        dense(512, 1000, small_weights=True),
    )
]  # fmt: skip
SYMMETRIC = [replace(spec, symmetric=True) for spec in (*DENSE[:8], *DEPTHWISE[:7])]
WORDS = [  # codes of 16 bits
    replace(spec, in_bits=bits[0], out_bits=bits[1], residual_bits=bits[2])
    for bits, specs in {
        (16, 16, 16): (*DENSE[1::2], *GROUPED[::2], *DEPTHWISE[1::2], *NARROW[::2], *TAILS[::2]),
        (16, 8, 16): (DENSE[1], DENSE[11], DEPTHWISE[2], TAILS[3], SMALL[0]),
        (8, 16, 8): (*DENSE[::3], *TILED[:2], *DEPTHWISE[::3], NARROW[3], *TAILS[1:12:3]),
        (8, 8, 16): (DENSE[1], TILED[1], DENSE[12], DEPTHWISE[2], TAILS[1]),
        (16, 8, 8): PACKED[::6],
    }.items()
    for spec in specs
]  # fmt: skip
HALVES = [  # codes of 4 bits
    replace(spec, in_bits=bits[0], out_bits=bits[1], residual_bits=bits[2])
    for bits, specs in {
        (4, 4, 4): (*DENSE[:2], DENSE[11], *TILED[8:11], DEPTHWISE[0], DEPTHWISE[4]),
        (4, 8, 8): (DENSE[2], DENSE[10], TILED[12], DEPTHWISE[1], TAILS[0], TAILS[1]),
        (8, 4, 8): (DENSE[3], DENSE[5], DENSE[11], DEPTHWISE[5], DEPTHWISE[8]),
        (8, 8, 4): (DENSE[1], DENSE[12], TILED[1], DEPTHWISE[11]),
        (16, 4, 4): (DENSE[1], DENSE[0], DEPTHWISE[0]),
        (4, 16, 16): (DENSE[1], DENSE[0], DEPTHWISE[11]),
    }.items()
    for spec in specs
]  # fmt: skip
HALVES += [
    replace(spec, in_bits=4, out_bits=4, residual_bits=4)
    for spec in (
        layer(14, 14, 48, 96),
        layer(7, 7, 24, 40, residual=True, weight_bits=4),
        layer(8, 8, 32, 64, 1, 2),
        layer(8, 8, 16, 48, 3, p=1, groups=2, residual=True),
        layer(5, 5, 24, 32, 3, p=1, groups=4, batch=2),
        layer(7, 7, 16, 24, 3, p=1, activation="silu", correction=True, batch=2),
        layer(6, 6, 16, 32, 3, p=1, dilation=(2, 2), small_weights=True),
        layer(60, 60, 64, 128),
        dense(64, 48, batch=3),
        dense(128, 272, weight_bits=2, correction=True),
        dense(512, 4096),
        depthwise(20, 60, 192),
        depthwise(9, 9, 24, 5, 2, weight_bits=4),
        depthwise(9, 9, 32, p=0, residual=True),
        depthwise(12, 12, 40, in_ranges=40, out_ranges=40, batch=2),
    )
]
MULTIPLIED += [  # and codes of 16 and 4 bits
    replace(MULTIPLIED[i], in_bits=bits, out_bits=bits, residual_bits=bits)
    for bits, cases in ((16, (0, 2, 3, 6, 9)), (4, (0, 1, 5, 6, 9)))
    for i in cases
]
AT_THE_LIMIT = [
    replace(spec, in_bits=16, output=output)
    for spec in (dense(1203, 20), layer(6, 6, 128, 16, 3), depthwise(9, 9, 16, 5, p=0))
    for output in ("int32", "float32")
]
CASES = [*DENSE, *TILED, *GROUPED, *DEPTHWISE, *NARROW, *SMALL, *WIDE, *TAILS, *PACKED]
CASES += [*SYMMETRIC, *WORDS, *HALVES, *MULTIPLIED]


def name(spec: LayerSpec) -> str:
    small = "small" if spec.small_weights else "symmetric" if spec.symmetric else ""
    group = f"g{spec.weight_group}" if spec.weight_group else ""
    bits = (spec.in_bits, spec.out_bits, spec.residual_bits)
    stored = "" if bits == (8, 8, 8) else "-codes" + "_".join(map(str, bits))
    text = f"{spec}-w{spec.weight_bits}{group}{small}-{spec.activation}-{spec.output}{stored}"
    return text.replace(" ", "_")


def multiplied(spec: LayerSpec, codes: Any, rng: Any) -> Any:
    """Codes times multipliers of every group of inputs, some of them the largest."""
    codes = np.maximum(codes, 1 - (1 << spec.weight_bits - 1))  # symmetric
    largest = max(1, (64 if spec.small_weights else 127) // ((1 << spec.weight_bits - 1) - 1))
    times = rng.integers(1, largest + 1, (spec.out_channels, spec.runs))
    times[::3, ::2] = largest
    each = times.repeat(spec.weight_group, 1)[:, : spec.group_inputs]
    return codes * each[:, None, None]


def integer_sums(spec: LayerSpec, x: Any, weights: Any, x_qparams: Any) -> Any:
    """Exact sums of products ``[N, OH, OW, OC]`` (float64 holds these integers)."""
    top, left, bottom, right = spec.pads
    x = numerics.pad_zero_point(x, x_qparams, [(0, 0), (top, bottom), (left, right), (0, 0)])
    size = (spec.batch, spec.out_height, spec.out_width, spec.groups, -1)
    total = np.zeros((*size[:4], spec.group_outputs))
    for i, j in np.ndindex(spec.kernel):
        row, column = i * spec.dilation[0], j * spec.dilation[1]
        last_row = row + (spec.out_height - 1) * spec.strides[0] + 1
        last_column = column + (spec.out_width - 1) * spec.strides[1] + 1
        view = x[:, row : last_row : spec.strides[0], column : last_column : spec.strides[1]]
        tap = weights[:, i, j].reshape(spec.groups, spec.group_outputs, -1).astype(float)
        total += np.einsum("nhwgi,goi->nhwgo", view.reshape(size).astype(float), tap)
    return total.reshape(*size[:3], -1).astype(np.int32)


def codes(rng: Any, shape: tuple[int, ...], bits: int, most: int = MOST) -> Any:
    """Random codes of tensors stored in 4, 8 or 16 bits."""
    if bits <= 8:
        return rng.integers(0, 1 << bits, shape, np.uint8)
    return rng.integers(0, most + 1, shape, np.int16)


def random_arguments(spec: LayerSpec, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    n, oc = spec.batch, spec.out_channels
    largest = 1 << spec.weight_bits - 1
    if spec.small_weights:
        largest = min(largest, 64)
    taps = spec.kernel[0] * spec.kernel[1] * spec.group_inputs

    def qparams(ranges: int, scale: float, bits: int) -> Any:
        scales = (rng.random((n, ranges)) + 0.5) * scale
        largest = {4: [3, 15, 15], 8: [15, 63, 255], 16: [400, MOST, MOST]}[bits]
        qmax = rng.choice(largest, (n, 1)).repeat(ranges, 1)
        scales = scales * 255 / largest[-1]
        return np.stack([scales, rng.integers(0, qmax + 1, scales.shape), qmax], 1)

    smallest = 1 - largest if spec.symmetric else -largest
    weights = rng.integers(smallest, largest, (oc, *spec.kernel, spec.group_inputs))
    if spec.weight_group:
        weights = multiplied(spec, weights, rng)
        largest = 64 if spec.small_weights else 128
    spread = 8e-6 * largest * np.sqrt(taps) + 0.01
    image = (n, spec.out_height, spec.out_width, oc)
    # The largest code for which any such weights are proven to fit int32.
    most = (
        min(MOST, (2**31 - 1) // (2 * taps * largest))
        if spec.in_bits == 16
        else (1 << spec.in_bits) - 1
    )
    found = {
        "X": codes(rng, (n, spec.height, spec.width, spec.in_channels), spec.in_bits, most),
        "weights": weights.astype(np.int8),
        "T": rng.random(oc) * 1e-3 + 1e-4,
        "WS": weights.sum((1, 2, 3)).astype(np.int32),
        "B": rng.normal(size=oc),
        "XQ": qparams(spec.in_ranges, 0.02, spec.in_bits),
        "CORR": rng.normal(size=(n, oc)),
        "YQ": qparams(spec.out_ranges, spread, spec.out_bits),
        "R": codes(rng, image, spec.residual_bits),
        "RQ": qparams(1, 0.01, spec.residual_bits),
    }
    found["XQ"][:, 1:] = np.minimum(found["XQ"][:, 1:], most)
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in found.items()}


def arguments_at_the_limit(spec: LayerSpec, sign: int) -> dict[str, Any]:
    """Arguments of a layer of 16-bit codes whose sums are as large as the proof allows."""
    values = random_arguments(spec)
    values["weights"][:] = sign * 127
    values["WS"] = values["weights"].sum((1, 2, 3)).astype(np.int32)
    most = min(MOST, largest_code(values["weights"]))
    values["X"][:] = most
    values["XQ"][:, 1], values["XQ"][:, 2] = 0 if sign > 0 else most, most
    return values


def expected(spec: LayerSpec, values: dict[str, Any]) -> Any:
    sums = integer_sums(spec, values["X"], values["weights"], values["XQ"])
    if spec.output == "int32":
        return sums
    acc = numerics.Accumulator(
        sums, values["XQ"], values["T"], values["WS"], values["B"],
        values["CORR"] if spec.correction else None,
        values["R"] if spec.residual else None,
        values["RQ"] if spec.residual else None,
    )  # fmt: skip
    activation = spec.tail
    if spec.output == "float32":
        return numerics.dequantize_accumulator(acc, activation)
    dtype = codes_dtype(spec.out_bits)
    found = numerics.requantize(acc, values["YQ"], activation, dtype)
    return numerics.pack_codes(found) if spec.out_bits == 4 else found


def kernel_arguments(spec: LayerSpec, target: Any, values: dict[str, Any]) -> list[Any]:
    """Arrays for every argument of the kernel, the output last."""
    values = values | {"W": pack_weights(spec, values["weights"], target)}
    for key, bits in (("X", spec.in_bits), ("R", spec.residual_bits)):
        values[key] = numerics.pack_codes(values[key]) if bits == 4 else values[key]
    found = []
    for key, shape, dtype in argument_shapes(spec, packed_shape(spec, target)):
        value = np.full(shape, 77, dtype) if key == "OUT" else values[key].reshape(shape)
        assert value.dtype == dtype
        found.append(value)
    return found
