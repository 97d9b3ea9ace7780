"""Kernels over a stored accumulator, against the simulator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tvm_probq import ops
from tvm_probq.simulator import numerics
from tvm_probq.simulator.numerics import Accumulator

ACTIVATIONS = [
    "none",
    "clip(0.0,inf)",
    "clip(0.0,6.0)",
    "leaky(0.1)",
    "hard_swish",
    "hard_sigmoid",
    "sigmoid",
    "silu",
    "tanh",
    "gelu",
]
VARIANTS = {  # input ranges, output ranges, residual ranges (0: none), correction; OC for -1
    "plain": (1, 1, 0, False),
    "all": (1, 1, 1, True),
    "channels": (-1, -1, -1, True),
    "residual": (1, -1, 1, False),
}


def _case(rng: Any, qparams: Any, shape: tuple[int, ...], variant: str) -> tuple[Any, ...]:
    channels = shape[-1]
    x_ranges, y_ranges, ranges, correction = (channels if v == -1 else v for v in VARIANTS[variant])
    acc = Accumulator(
        rng.integers(-50000, 50000, shape).astype("int32"),
        qparams(shape[0], x_ranges),
        (rng.random(channels) * 0.005).astype("float32"),
        rng.integers(-900, 900, channels).astype("int32"),
        rng.normal(size=channels).astype("float32"),
        rng.normal(size=(shape[0], channels)).astype("float32") if correction else None,
        rng.integers(0, 256, shape).astype("uint8") if ranges else None,
        qparams(shape[0], ranges) if ranges else None,
    )
    return acc, qparams(shape[0], y_ranges, 63)


def _arrays(acc: Accumulator, y: Any = None) -> list[Any]:
    given = [acc.sums, acc.x_qparams, y, acc.weight_scale, acc.weight_sum, acc.bias]
    given += [acc.correction, acc.residual, acc.residual_qparams]
    return [a for a in given if a is not None]


def _call(op: Any, acc: Accumulator, required: int, **attrs: Any) -> Any:
    def make(*tensors: Any) -> Any:
        rest = list(tensors[required:])
        correction = rest.pop(0) if acc.correction is not None else None
        return op(*tensors[:required], correction, tuple(rest) or None, **attrs)

    return make


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 4, 5, 24), (3, 10)])
def test_matches_the_simulator(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: Any, activation: str, variant: str
) -> None:
    acc, y = _case(rng, qparams, shape, variant)
    act = ops.parse_activation(activation)
    real = numerics.dequantize_accumulator(acc, act)
    requantize = _call(ops.requantize, acc, 6, activation=activation)
    dequantize = _call(ops.dequantize_accumulator, acc, 5, activation=activation)
    measure = _call(ops.measure, acc, 5, activation=activation, qmax=255)

    def make(*tensors: Any) -> Any:
        without_y = tensors[:2] + tensors[3:]
        found = requantize(*tensors), dequantize(*without_y), measure(*without_y)
        return relax.Tuple(found)

    codes, reals, measured = evaluate(make, _arrays(acc, y))
    same_bits(codes, numerics.requantize(acc, y, act))
    same_bits(reals, real)
    same_bits(measured, numerics.measure(real, 255))


@pytest.mark.parametrize("mcpu", ["cascadelake", "x86-64", "cortex-a76"])
def test_other_instruction_sets(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, mcpu: str
) -> None:
    acc, y = _case(rng, qparams, (3, 3, 5, 40), "all")
    act = ops.parse_activation("clip(0.0,6.0)")
    make = _call(ops.requantize, acc, 6, activation="clip(0.0,6.0)")
    same_bits(evaluate(make, _arrays(acc, y), mcpu)[0], numerics.requantize(acc, y, act))


def test_wrong_parameters_saturate(evaluate: Any, same_bits: Any, rng: Any, qparams: Any) -> None:
    """A scale far too small makes values beyond int32, which must clip and not wrap."""
    acc, y = _case(rng, qparams, (1, 4, 5, 24), "all")
    y[:, 0] = np.float32(2.0**-40)
    make = _call(ops.requantize, acc, 6)
    [codes] = evaluate(make, _arrays(acc, y))
    same_bits(codes, numerics.requantize(acc, y, ops.parse_activation("none")))
    assert set(np.unique(codes)) <= {0, 63}


@pytest.mark.parametrize("mcpu", ["cascadelake", "x86-64", "cortex-a72"])
@pytest.mark.parametrize("variant", ["plain", "all", "residual"])
def test_codes_of_16_bits(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, variant: str, mcpu: str
) -> None:
    shape = (3, 3, 5, 40)
    acc, _ = _case(rng, qparams, shape, variant)
    y = qparams(3, 40 if variant == "residual" else 1, ops.MAX_WIDE_CODE)
    if acc.residual is not None:
        codes = rng.integers(0, 32768, shape).astype("int16")
        acc = replace(acc, residual=codes, residual_qparams=qparams(3, 1, ops.MAX_WIDE_CODE))
    for text in ("clip(0.0,6.0)", "hard_swish"):
        act = ops.parse_activation(text)
        make = _call(ops.requantize, acc, 6, activation=text, qmax=ops.MAX_WIDE_CODE)
        [found] = evaluate(make, _arrays(acc, y), mcpu)
        same_bits(found, numerics.requantize(acc, y, act, "int16"))
        [measured] = evaluate(
            _call(ops.measure, acc, 5, activation=text, qmax=20000), _arrays(acc), mcpu
        )
        same_bits(measured, numerics.measure(numerics.dequantize_accumulator(acc, act), 20000))
