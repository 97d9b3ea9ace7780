"""Windows of average pooling, against the reference implementation of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tvm_probq.frontend.onnx import load_model
from tvm_probq.ir.pooling import is_average_pool
from tvm_probq.ir.rewrite import bindings
from tvm_probq.simulator import numerics
from tvm_probq.simulator.interpreter import Simulator

# Kernel, strides, padding, whether it counts, whether sizes are rounded up.
CASES = [
    ([2, 2], [2, 2], [0, 0, 0, 0], 0, 0), ([3, 3], [1, 1], [1, 1, 1, 1], 0, 0),
    ([3, 3], [1, 1], [1, 1, 1, 1], 1, 0), ([3, 2], [2, 3], [0, 0, 0, 0], 0, 1),
    ([3, 3], [2, 2], [1, 0, 0, 1], 1, 1), ([2, 4], [1, 2], [1, 2, 0, 3], 0, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_windows(case: Any, onnx_net: Any, tmp_path: Path) -> None:
    kernel, strides, pads, counted, ceil = case
    net = onnx_net(4, 7, 9)
    net(
        "AveragePool", net.conv("x", 4, 4, 1), kernel_shape=kernel, strides=strides, pads=pads,
        count_include_pad=counted, ceil_mode=ceil,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(1, 4, 7, 9)).astype(np.float32)
    mod = load_model(net.save(tmp_path)).mod
    (wanted,) = ReferenceEvaluator(net.proto(net.nodes[-1].output[0])).run(None, {"x": x})
    np.testing.assert_allclose(Simulator(mod)(x), wanted, rtol=1e-5, atol=1e-5)
    calls = [b.value for b in bindings(mod["main"])]
    assert sum(map(is_average_pool, calls)) == 1


def test_extreme_codes_do_not_wrap() -> None:
    q = np.full((1, 4, 4, 3), 255, np.uint8)
    table = np.array([[0, 1], [3, 4]], np.int32)
    assert (numerics.avg_pool(q, table, table) == 255).all()
    assert (numerics.avg_pool(0 * q, table, table) == 0).all()


def test_halves_round_to_even() -> None:
    q = np.array([0, 1, 1, 2, 2, 3], np.uint8).reshape(1, 1, 6, 1)
    rows, columns = np.array([[0], [1]], np.int32), np.array([[0, 2, 4], [2, 4, 6]], np.int32)
    np.testing.assert_array_equal(numerics.avg_pool(q, rows, columns).ravel(), [0, 2, 2])
