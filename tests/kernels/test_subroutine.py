"""Kernels as subroutines: where their buffers lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import tirx
from tvm.script import tirx as T

from tvm_probq.kernels.small.emit import Argument, build_kernel, load, loop, scratch, store
from tvm_probq.kernels.subroutine import STACK_BYTES, with_workspace


def reversing_kernel(length: int) -> tirx.PrimFunc:
    """Doubles and reverses each sample by way of two buffers."""

    def body(n: Any, x: Any, out: Any) -> None:
        doubled, turned = (scratch("float32", length) for _ in range(2))
        with loop(length) as i:
            store(doubled, load(x, n, i) * 2.0, i)
        with loop(length) as i:
            store(turned, load(doubled, length - 1 - i), i)
        with loop(length) as i:
            store(out, load(turned, i) + load(doubled, i), n, i)

    arguments = [Argument(name, (2, length)) for name in ("x", "out")]
    return build_kernel("reverse", arguments, 2, body)


@pytest.mark.parametrize("length", [STACK_BYTES // 4, 1000])
def test_large_buffers_lie_in_the_workspace(
    length: int, run_kernel: Any, same_bits: Any, rng: Any
) -> None:
    kernel, size = with_workspace(reversing_kernel(length))
    assert size == 2 * -(-4 * length // 64) * 64
    assert [int(d) for d in kernel.params[-1].shape] == [size]
    x = rng.normal(size=(2, length)).astype("float32")
    outputs = [np.zeros_like(x), np.full(size, 255, "uint8")]
    found, _ = run_kernel(kernel, [x], outputs)
    same_bits(found, 2 * x[:, ::-1] + 2 * x)


def test_small_buffers_stay_on_the_stack() -> None:
    kernel = reversing_kernel(STACK_BYTES // 4 - 1)
    unchanged, size = with_workspace(kernel)
    assert unchanged.same_as(kernel)
    assert size == 0


def test_buffers_of_parallel_tasks_stay_their_own() -> None:
    @T.prim_func(private=True, s_tir=True)
    def kernel(out: T.Buffer((4, 512), "float32")) -> None:
        with T.sblock("root"):
            for task in T.parallel(4):
                own = T.alloc_buffer((512,), "float32")
                for i in range(512):
                    own[i] = T.float32(1.0)
                for i in range(512):
                    out[task, i] = own[511 - i]

    unchanged, size = with_workspace(kernel)
    assert unchanged.same_as(kernel)
    assert size == 0
