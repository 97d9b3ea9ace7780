"""Kernels of elementwise products and of their range, against the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq import ops
from tvm_probq.kernels.merge import RESIDUAL, write_over
from tvm_probq.kernels.small.products import ProductSpec, multiply_kernel
from tvm_probq.simulator import products

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
TARGETS = ["cascadelake", "haswell", "x86-64", "cortex-a76"]
# Odd channels, positions that do not fill a row of vectors, one position, more channels than a tile
# has bytes for two.
SHAPES = [
    (1, 5, 7, 24), (3, 4, 5, 10), (1, 9, 9, 1), (3, 5, 3, 13), (1, 7, 7, 130), (2, 3, 1, 576),
    (1, 1, 1, 40), (1, 2, 2, 1100), (3, 40), (1, 7),
]  # fmt: skip
ACTIVATIONS = ["none", "clip(0.0,inf)", "clip(-0.5,2.0)"]


def _codes(rng: Any, *shape: int) -> Any:
    return rng.integers(0, 256, shape).astype("uint8")


def _factors(rng: Any, shape: tuple[int, ...], gated: bool) -> tuple[Any, Any]:
    batch, channels = shape[0], shape[-1]
    other = (batch, 1, 1, channels) if gated else shape
    return _codes(rng, *shape), _codes(rng, *other)


def _check(
    evaluate: Any, same_bits: Any, factors: Any, pa: Any, pb: Any, py: Any, text: str = "none",
    mcpu: str = "",
) -> None:  # fmt: skip
    a, b = factors
    act = ops.parse_activation(text)
    make = lambda *v: ops.multiply(*v, activation=text)  # noqa: E731
    [y] = evaluate(make, [a, pa, b, pb, py], mcpu)
    same_bits(y, products.multiply(a, pa, b, pb, py, act))
    make = lambda *v: ops.product_range(*v, qmax=63, activation=text)  # noqa: E731
    [p] = evaluate(make, [a, pa, b, pb], mcpu)
    same_bits(p, products.product_range(a, pa, b, pb, 63, act))


@pytest.mark.parametrize(
    ("shape", "gated"), [(s, False) for s in SHAPES] + [(s, True) for s in SHAPES if len(s) == 4]
)
def test_shapes(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...], gated: bool
) -> None:
    pa, pb, py = (qparams(shape[0]) for _ in range(3))
    _check(evaluate, same_bits, _factors(rng, shape, gated), pa, pb, py)


@pytest.mark.parametrize("mcpu", TARGETS)
@pytest.mark.parametrize("text", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_activations_on_each_instruction_set(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, gated: bool, text: str, mcpu: str
) -> None:
    pa, pb, py = qparams(3), qparams(3), qparams(3, 1, 63)
    _check(evaluate, same_bits, _factors(rng, (3, 5, 5, 24), gated), pa, pb, py, text, mcpu)


@pytest.mark.parametrize("per_channel", [0, 1, 2])
@pytest.mark.parametrize("gated", [False, True])
def test_ranges_per_channel(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, gated: bool, per_channel: int
) -> None:
    pa, pb, py = (qparams(3, 24 if i == per_channel else 1) for i in range(3))
    _check(evaluate, same_bits, _factors(rng, (3, 4, 5, 24), gated), pa, pb, py)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("gated", [False, True])
def test_scales_that_are_not_finite(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, gated: bool, value: float
) -> None:
    a, b = _factors(rng, (3, 4, 4, 24), gated)
    pa, pb, py = qparams(3), qparams(3), qparams(3)
    pa[0, 0], pb[1, 0] = value, value
    a[:2, ..., :3] = pa[0, 1].astype("uint8")  # zeros: times infinity they are NaN
    b[:2, ..., 2:5] = pb[1, 1].astype("uint8")
    _check(evaluate, same_bits, (a, b), pa, pb, py)


@pytest.mark.parametrize("gated", [False, True])
def test_the_range_is_that_of_the_product(rng: Any, qparams: Any, gated: bool) -> None:
    a, b = _factors(rng, (2, 6, 6, 10), gated)
    pa, pb = qparams(2), qparams(2)
    act = ops.parse_activation("none")
    p = products.product_range(a, pa, b, pb, 255, act)
    y = products.multiply(a, pa, b, pb, p, act)
    assert y.reshape(2, -1).min(1).tolist() == [0, 0]
    assert y.reshape(2, -1).max(1).tolist() == [255, 255]


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) == 4])
def test_in_the_memory_of_the_first_factor(
    run_kernel: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...]
) -> None:
    a, b = _factors(rng, shape, shape[1] > 1)
    pa, pb, py = (qparams(shape[0]) for _ in range(3))
    kernel = multiply_kernel(ProductSpec(shape, shape[1] > 1, (1, 1, 1)))
    assert RESIDUAL not in kernel.attrs  # it is the rule of the operator that says so
    [y] = run_kernel(_last_to_first(write_over(kernel, 0)), [pa, b, pb, py], [a])
    same_bits(y, products.multiply(a, pa, b, pb, py, ops.parse_activation("none")))


def _last_to_first(kernel: Any) -> Any:
    """The kernel with its first parameter last, where `run_kernel` reads results."""
    from tvm import tirx

    first, *rest = kernel.params
    changed = tirx.PrimFunc([*rest, first], kernel.body, kernel.ret_type)
    return changed.with_attrs(dict(kernel.attrs.items()))
