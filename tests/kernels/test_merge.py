"""Kernels in one PrimFunc, and tensors inside others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx

from tvm_probq.kernels.merge import merge_kernels, pack_arguments, write_over
from tvm_probq.kernels.small.emit import Argument, build_kernel, load, store
from tvm_probq.target.profile import load_profile

SIZE = 64
TENSOR = ((1, SIZE), "float32")


def weighted_sum() -> tirx.PrimFunc:
    """``out = a * w + bias``."""

    def body(n: Any, a: Any, w: Any, bias: Any, out: Any) -> None:
        def read(buffer: Any) -> Any:
            return load(buffer, n, 0, lanes=SIZE)

        value = read(a) * read(w) + tirx.Cast(f"float32x{SIZE}", read(bias))
        store(out, value, n, 0, lanes=SIZE)

    shape = (1, SIZE)
    arguments = [Argument(name, shape) for name in ("a", "w")]
    arguments += [Argument("bias", shape, "int32"), Argument("out", shape)]
    return build_kernel("weighted_sum", arguments, 1, body)


@pytest.fixture(scope="module")
def target() -> Any:
    return load_profile("x86-64").target()


@pytest.fixture
def arrays() -> list[Any]:
    """Small whole numbers: exact in any order."""
    rng = np.random.default_rng(0)
    return [rng.integers(-9, 9, TENSOR[0]).astype(d) for d in ("float32", "float32", "int32")]


def run(kernel: tirx.PrimFunc, target: Any, *arguments: Any) -> list[Any]:
    library = tvm.tirx.build(kernel.with_attr("global_symbol", "main"), target=target)
    tensors = [tvm.runtime.tensor(a) for a in arguments]
    library["main"](*tensors)
    return [t.numpy() for t in tensors]


@pytest.mark.parametrize("inside", [(), (3,)])
def test_one_kernel_twice(inside: tuple[int, ...], target: Any, arrays: list[Any]) -> None:
    kernel = weighted_sum()
    tensors = [TENSOR, TENSOR, ((1, SIZE), "int32"), TENSOR, TENSOR]
    merged = merge_kernels([kernel, kernel], [(0, 1, 2, 3), (3, 1, 2, 4)], tensors, inside)
    a, w, bias = arrays
    room = [np.zeros(TENSOR[0], np.float32) for _ in range(2 - len(inside))]
    once = a * w + bias
    found = run(merged, target, *arrays, *room)
    np.testing.assert_array_equal(found[-1], once * w + bias)
    if not inside:
        np.testing.assert_array_equal(found[-2], once)
    assert int(merged.attrs["probq.inside_bytes"]) == 4 * SIZE * len(inside)


def test_inputs_in_one(target: Any, arrays: list[Any]) -> None:
    kernel = weighted_sum()
    a, w, bias = arrays
    size = w.nbytes + bias.nbytes
    packed = pack_arguments(kernel, {1: 0, 2: w.nbytes}, 3, size)
    assert packed.attrs["tirx.noalias"]
    memory = np.frombuffer(w.tobytes() + bias.tobytes(), np.uint8).copy()
    found = run(packed, target, a, memory, np.zeros(TENSOR[0], np.float32))
    np.testing.assert_array_equal(found[-1], a * w + bias)


def test_inputs_in_one_and_the_output_over_another(target: Any, arrays: list[Any]) -> None:
    a, w, bias = arrays
    packed = pack_arguments(weighted_sum(), {1: 0, 2: w.nbytes}, 3, w.nbytes + bias.nbytes)
    memory = np.frombuffer(w.tobytes() + bias.tobytes(), np.uint8).copy()
    found = run(write_over(packed, 0), target, a.copy(), memory)
    np.testing.assert_array_equal(found[0], a * w + bias)
