"""Small kernels that read, write or make bytes of two codes, against the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.kernels.byte_sums import byte_sums
from tvm_probq.kernels.small import sums_kernel
from tvm_probq.kernels.small.halves import pack_kernel, unpack_kernel
from tvm_probq.kernels.small.patch_sums import Window, patch_sums_kernel
from tvm_probq.simulator import numerics, surrogates
from tvm_probq.target.host import missing_features

FEATURES = {"cascadelake": "avx512vnni", "haswell": "avx2", "x86-64": "sse2"}
SHAPES = [(1, 8, 8, 16), (2, 9, 7, 24), (3, 1, 1, 8), (1, 5, 5, 40), (2, 40), (1, 30, 30, 256)]


@pytest.fixture(params=FEATURES)
def target(request: pytest.FixtureRequest) -> Any:
    if missing_features([FEATURES[request.param]]):
        pytest.skip(f"this CPU has no {FEATURES[request.param]}")
    return tvm.target.Target({"kind": "llvm", "mcpu": request.param})


def run(kernel: Any, target: Any, given: list[Any], shape: tuple[int, ...], dtype: str) -> Any:
    library = tvm.tirx.build(kernel.with_attr("global_symbol", "main"), target=target)
    tensors = [tvm.runtime.tensor(a) for a in (*given, np.full(shape, 77, dtype))]
    library["main"](*tensors)
    return tensors[-1].numpy()


def codes(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).integers(0, 16, shape, np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_pack_and_unpack(target: Any, shape: tuple[int, ...]) -> None:
    q = codes(shape)
    p = numerics.pack_codes(q)
    assert p.shape == (*shape[:-1], shape[-1] // 2)
    assert p[..., 0].flat[0] == q[..., 0].flat[0] | q[..., shape[-1] // 2].flat[0] << 4
    np.testing.assert_array_equal(numerics.unpack_codes(p), q)
    with target:
        kernels = pack_kernel(shape), unpack_kernel(shape)
    np.testing.assert_array_equal(run(kernels[0], target, [q], p.shape, "uint8"), p)
    np.testing.assert_array_equal(run(kernels[1], target, [p], shape, "uint8"), q)


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums(target: Any, shape: tuple[int, ...], strides: tuple[int, int]) -> None:
    q = codes(shape)
    p, out = numerics.pack_codes(q), (shape[0], 2, shape[-1])
    for dot in (None, byte_sums(target)):
        with target:
            kernel = sums_kernel(p.shape, strides, dot, packed=True)
        found = run(kernel, target, [p], out, "int32")
        np.testing.assert_array_equal(found, numerics.sums(q, strides))


@pytest.mark.parametrize("groups", [1, 2, 0])
@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) == 4])
def test_patch_sums(target: Any, shape: tuple[int, ...], groups: int) -> None:
    groups = groups or shape[-1]
    q, n = codes(shape), shape[0]
    zero = np.random.default_rng(1).integers(0, 15, n)
    qparams = np.stack([np.ones(n), zero, np.full(n, 15)], 1)[..., None].astype(np.float32)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), groups, 2)
    p = numerics.pack_codes(q)
    with target:
        kernel = patch_sums_kernel(p.shape, 1, window, packed=True)
    found = run(kernel, target, [p, qparams], (n, 3, groups), "float32")
    wanted = surrogates.patch_sums(q, qparams, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), groups, 2)
    np.testing.assert_array_equal(found, wanted)
