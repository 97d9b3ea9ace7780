"""A random input of a layer and what the simulator makes of it: the gate of every candidate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype
from tvm_probq.ops import MAX_WIDE_CODE
from tvm_probq.quantization.accumulator import ACCUMULATOR_MAX, CODE_MAX
from tvm_probq.simulator import numerics
from tvm_probq.simulator.convolution import conv2d

Array = npt.NDArray[Any]
LARGEST = {2: 2, 4: 8, 6: 32, 8: 128}  # codes of weights by bits
WIDE = 16  # bits of codes
SMALL = 64  # of weights proven to be small


def random_arguments(spec: LayerSpec, seed: int) -> dict[str, Array]:
    """Draw the arguments of a layer's kernel.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    seed : int
        Of the random numbers.

    Returns
    -------
    dict of str to ndarray
        By the names of `argument_shapes`; ``weights`` are the codes, not yet packed. The output's
        scale fits the sums, so that most codes are inside the range.
    """
    rng = np.random.default_rng(seed)
    n, oc = spec.batch, spec.out_channels
    largest = LARGEST[spec.weight_bits]
    if spec.small_weights:
        largest = min(largest, SMALL)
    taps = spec.kernel[0] * spec.kernel[1] * spec.group_inputs

    most = largest_codes(spec, taps * largest)

    def qparams(ranges: int, scale: float, name: str) -> Array:
        scales = (rng.random((n, ranges)) + 0.5) * scale * 255 / most[name]
        zeros = rng.integers(0, most[name] + 1, scales.shape)
        return np.stack([scales, zeros, np.full(scales.shape, most[name])], 1)

    def codes(shape: tuple[int, ...], name: str) -> Array:
        bits = {"X": spec.in_bits, "R": spec.residual_bits}[name]
        return rng.integers(0, most[name] + 1, shape, codes_dtype(bits))

    smallest = 1 - largest if spec.symmetric else -largest
    weights = rng.integers(smallest, largest, (oc, *spec.kernel, spec.group_inputs))
    if spec.weight_group:
        weights = _multiplied(spec, weights, rng)
        largest = SMALL if spec.small_weights else LARGEST[8]
    found = {
        "X": codes((n, spec.height, spec.width, spec.in_channels), "X"),
        "weights": weights.astype(np.int8),
        "T": rng.random(oc) * 1e-3 + 1e-4,
        "WS": weights.sum((1, 2, 3)).astype(np.int32),
        "B": rng.normal(size=oc),
        "XQ": qparams(spec.in_ranges, 0.02, "X"),
        "CORR": rng.normal(size=(n, oc)),
        "YQ": qparams(spec.out_ranges, 8e-6 * largest * math.sqrt(taps) + 0.01, "Y"),
        "R": codes((n, spec.out_height, spec.out_width, oc), "R"),
        "RQ": qparams(1, 0.01, "R"),
    }
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in found.items()}


def _multiplied(spec: LayerSpec, codes: Array, rng: np.random.Generator) -> Array:
    """Codes times a multiplier of every group of inputs, the products as small as they must be."""
    largest = LARGEST[spec.weight_bits] - 1
    most = (SMALL if spec.small_weights else LARGEST[8] - 1) // largest
    times = rng.integers(1, most + 1, (spec.out_channels, spec.runs))
    each = np.repeat(times, spec.weight_group, axis=1)[:, : spec.group_inputs]
    return np.asarray(np.clip(codes, -largest, largest) * each[:, None, None])


def in_memory(codes: Array, bits: int) -> Array:
    """Codes as kernels find them: two in a byte if they are stored in 4 bits."""
    return numerics.pack_codes(codes) if bits == HALF else codes


def expected(spec: LayerSpec, values: dict[str, Array]) -> Array:
    """Give the layer's output on `random_arguments`, by the simulator, as it lies in memory."""
    top, left, bottom, right = spec.pads
    width = [(0, 0), (top, bottom), (left, right), (0, 0)]
    x = numerics.pad_zero_point(values["X"], values["XQ"], width)
    sums = conv2d(x, values["weights"], spec.strides, (0, 0, 0, 0), spec.dilation, spec.groups)
    if spec.output == "int32":
        return sums
    accumulator = numerics.Accumulator(
        sums, values["XQ"], values["T"], values["WS"], values["B"],
        values["CORR"] if spec.correction else None,
        values["R"] if spec.residual else None,
        values["RQ"] if spec.residual else None,
    )  # fmt: skip
    activation = spec.tail
    if spec.output == "float32":
        return numerics.dequantize_accumulator(accumulator, activation)
    dtype = codes_dtype(spec.out_bits)
    codes = numerics.requantize(accumulator, values["YQ"], activation, dtype)
    return in_memory(codes, spec.out_bits)


def largest_codes(spec: LayerSpec, weights: int) -> dict[str, int]:
    """Largest codes of X, Y and R: sums with any `weights`, the sum of their sizes, fit int32."""
    most = {"X": spec.in_bits, "Y": spec.out_bits, "R": spec.residual_bits}
    largest = {HALF: (1 << HALF) - 1, WIDE: MAX_WIDE_CODE}
    found = {name: largest.get(bits, CODE_MAX) for name, bits in most.items()}
    return {**found, "X": min(found["X"], ACCUMULATOR_MAX // (2 * weights))}
