"""Resizing on codes, against the simulator."""

from typing import Any

import numpy as np
import pytest

from tvm_probq import ops
from tvm_probq.ir.resizing import taps
from tvm_probq.simulator.resize import resize

CASES = {  # shape, size, coordinates, nearest
    "twice": ((1, 5, 6, 96), (10, 12), "half_pixel", None),
    "half": ((2, 8, 10, 24), (4, 5), "half_pixel", None),
    "odd": ((3, 5, 7, 10), (8, 4), "align_corners", None),
    "nearest": ((1, 4, 5, 70), (8, 10), "asymmetric", "floor"),
    "one pixel": ((2, 1, 1, 3), (4, 3), "pytorch_half_pixel", None),
}


def _tables(case: str) -> list[Any]:
    shape, size, coordinates, nearest = CASES[case]
    axes = [taps(o, n, coordinates, nearest) for o, n in zip(shape[1:3], size, strict=True)]
    return [table for axis in axes for table in (axis.index, axis.weight)]


@pytest.mark.parametrize("mcpu", ["cascadelake", "haswell", "x86-64", "cortex-a76"])
@pytest.mark.parametrize("case", CASES)
def test_matches_the_simulator(
    evaluate: Any, same_bits: Any, rng: Any, case: str, mcpu: str
) -> None:
    q = rng.integers(0, 256, CASES[case][0]).astype("uint8")
    tables = _tables(case)
    [found] = evaluate(ops.resize, [q, *tables], mcpu)
    same_bits(found, resize(q, *tables))


@pytest.mark.parametrize("case", CASES)
def test_extreme_codes_do_not_wrap(case: str) -> None:
    q = np.random.default_rng(0).choice(np.uint8([0, 255]), CASES[case][0])
    y = resize(q, *_tables(case))
    same = resize(np.full_like(q, 255), *_tables(case))
    assert (same == 255).all()
    assert y.min() >= q.min()
    assert y.max() <= q.max()


def test_nearest_moves_codes() -> None:
    q = np.arange(20, dtype=np.uint8).reshape(1, 4, 5, 1)
    wanted = q.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(resize(q.repeat(70, 3), *_tables("nearest"))[..., :1], wanted)
