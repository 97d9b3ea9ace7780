"""Small kernels of CPUs, rewritten for the threads of a CUDA device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from emulated_gpu import device
from tvm import tirx

from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda.access import OWN, SAME, SHARED, Memory
from tvm_probq.kernels.cuda.barriers import Barriers
from tvm_probq.kernels.cuda.threads import to_threads
from tvm_probq.kernels.small.elementwise import quantize_kernel
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    load,
    loop,
    scratch,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.padding import pad_kernel
from tvm_probq.kernels.small.ranges import pool_range_kernel
from tvm_probq.simulator import numerics

TARGET = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
RNG = np.random.default_rng(0)


def run(kernel: Any, *arrays: Any) -> list[Any]:
    """The arrays after the kernel has run twice: in either order of threads the same."""
    device()
    named = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    function = tvm.tirx.build(named, target=TARGET, pipeline="s_tir")["main"]
    found = []
    for _ in range(2):
        tensors = [tvm.runtime.tensor(a, device=tvm.cuda(0)) for a in arrays]
        function(*tensors)
        found.append([t.numpy() for t in tensors])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    return found[0]


def blocks(kernel: tirx.PrimFunc) -> int:
    (line,) = (text for text in kernel.script().splitlines() if '"blockIdx.x"' in text)
    return int(line.split(",")[1].strip(" )"))


def parameters(samples: int, ranges: int = 1) -> Any:
    rows = RNG.random((samples, 1, ranges)) + 0.5, RNG.integers(0, 9, (samples, 1, ranges))
    return np.concatenate([*rows, np.full((samples, 1, ranges), 15.0)], 1).astype(np.float32)


def test_independent_turns_are_split_among_blocks() -> None:
    kernel = to_threads(quantize_kernel((2, 20, 20, 9), 1))
    assert blocks(kernel) == 20 * 20 * 9 // 64
    x, p = RNG.normal(size=(2, 20, 20, 9)).astype(np.float32) * 9, parameters(2)
    found = run(kernel, x, p, np.zeros(x.shape, np.uint8))[-1]
    np.testing.assert_array_equal(found, numerics.quantize(x, p))


def test_what_is_written_twice_stays_in_one_block() -> None:
    kernel = to_threads(pad_kernel((2, 5, 40), 1, [0, 0, 2, 1, 3, 4]), ordered=True)
    assert blocks(kernel) == 1
    q, p = RNG.integers(0, 16, (2, 5, 40), np.uint8), parameters(2)
    found = run(kernel, q, p, np.zeros((2, 8, 47), np.uint8))[-1]
    wanted = numerics.pad_zero_point(q, p, [(0, 0), (2, 1), (3, 4)])
    np.testing.assert_array_equal(found, wanted)


def test_reductions_over_lanes_have_barriers() -> None:
    kernel = to_threads(pool_range_kernel((3, 4, 5, 70), 1, 255))
    assert blocks(kernel) == 1
    assert "__syncthreads" in kernel.script()
    check_pool_range(kernel)


def check_pool_range(kernel: Any) -> None:
    x, p = RNG.integers(0, 16, (3, 4, 5, 70), np.uint8), parameters(3)
    found = run(kernel, x, p, np.zeros((3, 3, 1), np.float32))[-1]
    np.testing.assert_array_equal(found, numerics.pool_range(x, p, 255))


def reversed_kernel() -> tirx.PrimFunc:
    """Elements in the opposite order, by way of scratch memory, and their sum."""

    def body(n: Any, x: Any, out: Any, total: Any) -> None:
        kept, running = scratch("float32", 64), scratch("float32", 1)
        wide_blocks(64, lambda c, lanes: store(kept, load(x, n, c, lanes=lanes), c, lanes=lanes))
        store(running, tirx.FloatImm("float32", 0.0), 0)
        with loop(64) as i:
            store(running, load(running, 0) + load(kept, i), 0)
            store(out, load(kept, 63 - i), n, i)
        store(total, load(running, 0), n, 0)

    arguments = [Argument("x", (2, 64)), Argument("out", (2, 64)), Argument("total", (2, 1))]
    return build_kernel("reversed", arguments, 2, body)


def test_memory_goes_where_it_is_seen() -> None:
    kernel = reversed_kernel()
    assert sorted(Memory.of(kernel).places.values()) == [SAME, SHARED]
    assert set(Memory.of(quantize_kernel((2, 9, 9, 9), 1)).places.values()) == {OWN}
    x = RNG.integers(0, 9, (2, 64)).astype(np.float32)
    _, found, total = run(to_threads(kernel), x, np.zeros_like(x), np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(found, x[:, ::-1])
    np.testing.assert_array_equal(total, x.sum(1, keepdims=True))


def test_too_much_shared_memory_is_refused() -> None:
    def body(n: Any, x: Any, out: Any) -> None:
        kept = scratch("float32", 1, 20000)
        store(kept, load(x, n, 0, lanes=16), 0, 16, lanes=16)
        store(out, load(kept, 0, 17), n, 0)

    arguments = [Argument("x", (1, 16)), Argument("out", (1, 1))]
    with pytest.raises(KernelError, match=r"80000 bytes, of 49152.*leave the layer static"):
        to_threads(build_kernel("large", arguments, 1, body))


def test_a_missing_barrier_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated device runs threads in an order in which it matters."""
    monkeypatch.setattr(Barriers, "before", lambda _self, _accesses: [])
    with pytest.raises(AssertionError):
        check_pool_range(to_threads(pool_range_kernel((3, 4, 5, 70), 1, 255)))
