"""Multiply-accumulates of operators."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from tvm_probq.ir.macs import macs_of


def var(*shape: int) -> Any:
    return relax.Var("x", relax.TensorType(shape, "float32"))


CALLS = {
    "conv2d": (
        lambda: relax.op.nn.conv2d(var(2, 4, 5, 6), var(8, 2, 3, 3), groups=2),
        2 * 8 * 3 * 4 * 2 * 9,
    ),
    "conv1d": (lambda: relax.op.nn.conv1d(var(1, 4, 9), var(8, 4, 3)), 8 * 7 * 12),
    "conv2d_transpose": (
        lambda: relax.op.nn.conv2d_transpose(var(1, 4, 5, 6), var(4, 8, 2, 2), strides=(2, 2)),
        5 * 6 * 4 * 8 * 4,
    ),
    "matmul": (lambda: relax.op.matmul(var(2, 3, 5), var(2, 5, 7)), 2 * 3 * 5 * 7),
    "add": (lambda: relax.op.add(var(2, 3), var(2, 3)), 0),
}


def test_unknown_shapes_count_nothing() -> None:
    x = relax.Var("x", relax.TensorType(dtype="float32", ndim=2))
    assert macs_of(relax.BlockBuilder().normalize(relax.op.matmul(x, var(5, 7)))) == 0


@pytest.mark.parametrize("name", CALLS)
def test_counts(name: str) -> None:
    make, wanted = CALLS[name]
    call = relax.BlockBuilder().normalize(make())
    assert macs_of(call) == wanted
