"""What is predicted from one tensor, in one launch, on the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from emulated_gpu import device

from tvm_probq import ops
from tvm_probq.kernels.cuda.predict import cuda_measured_pool_kernel, cuda_predict_kernel
from tvm_probq.kernels.small import CorrectionSpec, SurrogateSpec
from tvm_probq.simulator import numerics, surrogates
from tvm_probq.surrogate.sampling import Sampling

TARGET = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
RNG = np.random.default_rng(0)
LEVELS, RANK = 2, 8


def run(kernel: Any, given: list[Any], outs: list[Any]) -> list[Any]:
    """The outputs; in either order of threads the same, by one launch."""
    gpu = device()
    named = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    function = tvm.tirx.build(named, target=TARGET, pipeline="s_tir")["main"]
    found = []
    for _ in range(2):
        tensors = [tvm.runtime.tensor(a, device=tvm.cuda(0)) for a in (*given, *outs)]
        before = gpu.launches
        function(*tensors)
        assert gpu.launches == before + 1
        found.append([t.numpy() for t in tensors[len(given) :]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    return found[0]


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def codes(*shape: int) -> Any:
    return RNG.integers(-127, 128, shape, np.int8)


def parameters(samples: int) -> Any:
    rows = RNG.random((samples, 1, 1)) + 0.1, RNG.integers(0, 255, (samples, 1, 1))
    return np.concatenate([*rows, np.full((samples, 1, 1), 255.0)], 1).astype(np.float32)


class Layer:
    """A dense layer's surrogate on a basis, and its correction on the same one."""

    def __init__(self, shape: Any, strides: tuple[int, int], outputs: int) -> None:
        batch, channels = shape[0], shape[-1]
        self.q, self.x = RNG.integers(0, 256, shape, np.uint8), parameters(batch)
        self.strides, self.count = strides, Sampling(strides).count(shape)
        self.basis = codes(channels, RANK)
        gram = normal(RANK, RANK)
        self.constants = [
            self.basis, gram + gram.T, normal(2, RANK), normal(2), np.abs(normal(channels)),
        ]  # fmt: skip
        self.fit = surrogates.Fit(
            np.array([[2.0], [3.0]], np.float32), np.array([1.0, 0.5], np.float32),
            np.array([15.0, 255.0], np.float32),
        )  # fmt: skip
        self.matrix, self.scale = codes(RANK, outputs), normal(RANK)
        shapes = tuple(c.shape for c in self.constants)
        act = ops.parse_activation("clip(0.0,6.0)")
        self.spec = SurrogateSpec(
            "moments_tensor", batch, channels, 1, self.count, shapes, 1, LEVELS, act
        )
        self.correction = CorrectionSpec(RANK, outputs)
        self.stat = numerics.sums(self.q, strides)
        moments = surrogates.moments_of(self.stat, self.x, self.count)
        found = surrogates.predict_tensor(surrogates.MomentsTensor(*self.constants), *moments)
        self.wanted = [
            surrogates.to_qparams(*found, self.fit, act),
            surrogates.correct(moments[0], self.matrix, self.scale, self.basis),
        ]

    def given(self, first: Any) -> list[Any]:
        fit = [self.fit.spread, self.fit.rule, self.fit.levels]
        return [first, self.x, *self.constants, *fit, self.matrix, self.scale]

    def outputs(self) -> list[Any]:
        return [np.zeros(w.shape, w.dtype) for w in self.wanted]


CASES = {
    "small": ((2, 5, 5, 24), (2, 3), 40),
    "odd channels": ((1, 6, 6, 37), (1, 1), 16),
    "more channels than threads": ((1, 3, 3, 1100), (1, 1), 70),
    "one position": ((2, 12), (1, 1), 5),
}


@pytest.mark.parametrize("with_sums", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_one_launch_equals_the_simulator(case: str, with_sums: bool) -> None:
    layer = Layer(*CASES[case])
    kernel = cuda_predict_kernel(
        layer.q.shape, layer.strides, layer.spec, layer.correction, shared_basis=True,
        with_sums=with_sums,
    )  # fmt: skip
    wanted = [layer.stat, *layer.wanted] if with_sums else layer.wanted
    outs = [np.zeros(w.shape, w.dtype) for w in wanted]
    for found, value in zip(run(kernel, layer.given(layer.q), outs), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_sums_that_are_there_are_read() -> None:
    layer = Layer(*CASES["small"])
    kernel = cuda_predict_kernel(
        layer.stat.shape, None, layer.spec, layer.correction, shared_basis=True
    )
    outs = [np.zeros(w.shape, w.dtype) for w in layer.wanted]
    for found, value in zip(run(kernel, layer.given(layer.stat), outs), layer.wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_what_needs_too_much_shared_memory_stays_apart() -> None:
    channels, rank = 4096, 8
    shapes = ((channels, rank), (rank, rank), (2, rank), (2,), (channels,))
    spec = SurrogateSpec("moments_tensor", 1, channels, 1, 9, shapes, 1, 1)
    assert cuda_predict_kernel((1, 3, 3, channels), (1, 1), spec) is None


def test_a_pooling_and_its_range_are_one_launch() -> None:
    x, p = RNG.integers(0, 256, (2, 4, 5, 70), np.uint8), parameters(2)
    kernel = cuda_measured_pool_kernel(x.shape, 1, 255)
    outs = [np.zeros((2, 3, 1), np.float32), np.zeros((2, 70), np.uint8)]
    ranges, pooled = run(kernel, [x, p], outs)
    wanted = numerics.pool_range(x, p, 255)
    np.testing.assert_array_equal(ranges, wanted)
    np.testing.assert_array_equal(pooled, numerics.global_avg_pool(x, p, wanted))
