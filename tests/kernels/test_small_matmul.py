"""Matrix products of two tensors of codes, against the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq import ops
from tvm_probq.simulator import products
from tvm_probq.simulator.arithmetic import f32

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
TARGETS = ["cascadelake", "haswell", "x86-64", "cortex-a76"]
# Rows that do not fill a block, columns that do not fill a vector, one of each, long sums.
SHAPES = [
    (1, 8, 16, 8, 16), (2, 3, 5, 7, 9), (1, 1, 1, 1, 1), (3, 2, 4, 33, 17), (1, 2, 9, 300, 3),
    (2, 1, 3, 12, 40),
]  # fmt: skip


def _check(evaluate: Any, same_bits: Any, qparams: Any, a: Any, b: Any, mcpu: str = "") -> None:
    pa, pb, py = (qparams(len(a)) for _ in range(3))
    py[:, 0] *= f32(a.shape[-1] * 20)  # sums, not single products
    [codes] = evaluate(ops.matmul, [a, pa, b, pb, py], mcpu)
    same_bits(codes, products.matmul(a, pa, b, pb, py))
    [reals] = evaluate(ops.matmul, [a, pa, b, pb], mcpu)
    same_bits(reals, products.matmul(a, pa, b, pb))


def _factors(rng: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    n, heads, rows, length, columns = shape
    draw = lambda *s: rng.integers(0, 256, s).astype("uint8")  # noqa: E731
    return draw(n, heads, rows, length), draw(n, heads, length, columns)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, shape: tuple[int, ...]
) -> None:
    _check(evaluate, same_bits, qparams, *_factors(rng, shape))


@pytest.mark.parametrize("mcpu", TARGETS)
def test_instruction_sets(evaluate: Any, same_bits: Any, rng: Any, qparams: Any, mcpu: str) -> None:
    _check(evaluate, same_bits, qparams, *_factors(rng, (2, 3, 6, 20, 24)), mcpu)


@pytest.mark.parametrize("codes", [(0, 255), (255, 255), (255, 0)])
def test_extreme_sums(evaluate: Any, same_bits: Any, qparams: Any, codes: tuple[int, int]) -> None:
    a = np.full((1, 1, 2, 1000), codes[0], "uint8")
    _check(evaluate, same_bits, qparams, a, np.full((1, 1, 1000, 18), codes[1], "uint8"))


def test_it_is_the_product_of_the_reals(rng: Any, qparams: Any) -> None:
    a, b = _factors(rng, (2, 3, 4, 5, 6))
    pa, pb = qparams(2), qparams(2)
    real = [
        products.centred(q, p).astype(np.float64) * p[:, 0].reshape(2, 1, 1, 1)
        for q, p in ((a, pa), (b, pb))
    ]
    np.testing.assert_allclose(products.matmul(a, pa, b, pb), real[0] @ real[1], rtol=1e-5)
