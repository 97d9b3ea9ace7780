"""Kernels of sums and of the correction, against the simulator."""

from typing import Any

import numpy as np
import pytest
import tvm
from emulation import CPUS, arm_target

from tvm_probq import ops
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.byte_sums import byte_sums
from tvm_probq.kernels.small import sums_kernel
from tvm_probq.simulator import numerics, surrogates

COUNT = 49
TARGETS = ["cascadelake", "haswell", "x86-64", "cortex-a76"]


def _normal(rng: Any, *shape: int) -> Any:
    return rng.normal(size=shape).astype("float32")


def _stat(rng: Any, batch: int, channels: int) -> Any:
    q = rng.integers(0, 256, (batch, COUNT, 1, channels)).astype("uint8")
    return numerics.sums(q, (1, 1))


@pytest.mark.parametrize("mcpu", TARGETS)
@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 5, 7, 24), (2, 1)),
        ((3, 5, 7, 24), (2, 3)),
        ((1, 6, 4, 10), (1, 1)),
        ((1, 6, 4, 10), (1, 3)),
        ((1, 14, 14, 72), (3, 2)),
        ((3, 40), (1, 1)),
        ((2, 5, 5, 33), (1, 1)),
        ((1, 3, 50, 16), (4, 60)),
    ],
)
def test_sums(
    evaluate: Any, same_bits: Any, rng: Any, shape: Any, strides: Any, mcpu: str
) -> None:  # fmt: skip
    q = rng.integers(0, 256, shape).astype("uint8")
    q[0] = 255
    [found] = evaluate(lambda q: ops.sums(q, strides=strides), [q], mcpu)
    same_bits(found, numerics.sums(q, strides))


WIDEST = {  # by CPU, the bytes of a register whose sums it adds up
    "cascadelake": 64,
    "alderlake": 32,
    "cortex-a72": 16,
    "cortex-a76": 16,
}


def _byte_sums(mcpu: str) -> Any:
    target = arm_target(mcpu) if mcpu in CPUS else tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    return byte_sums(target)


@pytest.mark.parametrize("mcpu", WIDEST)
@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 8, 6, 16), (2, 1)),  # vectors of several positions, with and without a rest
        ((1, 8, 8, 32), (1, 1)),
        ((2, 5, 7, 16), (1, 1)),  # a rest that is no whole vector
        ((1, 9, 11, 24), (2, 1)),  # blocks of channels, the last one over the one before
        ((1, 9, 11, 32), (1, 2)),
        ((2, 5, 6, 40), (3, 2)),
        ((1, 5, 6, 100), (1, 1)),
        ((1, 7, 7, 192), (1, 1)),
        ((1, 33, 31, 64), (1, 1)),  # more positions than 16 bits hold, in rows that do not
        ((1, 16, 16, 16), (1, 1)),  # as many as they hold
        ((1, 2, 257, 16), (2, 1)),  # a row of one more
        ((3, 40), (1, 1)),
        ((1, 6, 4, 10), (1, 1)),
    ],
)
def test_sums_of_bytes(
    run_kernel: Any, same_bits: Any, rng: Any, shape: Any, strides: Any, mcpu: str
) -> None:
    dot = _byte_sums(mcpu)
    assert dot.widest == WIDEST[mcpu]
    q = rng.integers(0, 256, shape).astype("uint8")
    q[0, ..., ::2] = 255
    out = np.zeros((shape[0], 2, shape[-1]), "int32")
    [found] = run_kernel(sums_kernel(shape, strides, dot), [q], [out], mcpu)
    same_bits(found, numerics.sums(q, strides))


def test_the_dot_product_is_used(kernel_assembly: Any) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
    for dot, count in ((None, 0), (byte_sums(target), 8)):
        text = kernel_assembly(sums_kernel((1, 8, 8, 64), (1, 1), dot), target)
        assert text.count("vpdpbusd") == count


@pytest.mark.parametrize("mcpu", ["haswell", "x86-64"])
def test_cpus_without_a_dot_product(mcpu: str) -> None:
    assert _byte_sums(mcpu) is None


@pytest.mark.parametrize(
    ("mcpu", "instruction"), [("cortex-a76", "udot"), ("cortex-a72", "uadalp")]
)
def test_instructions_of_arm(kernel_assembly: Any, mcpu: str, instruction: str) -> None:
    kernel = sums_kernel((1, 8, 8, 64), (1, 1), _byte_sums(mcpu))
    text = kernel_assembly(kernel, arm_target(mcpu))
    # Of four vectors: eight dot products, or sums and squares of four pairs of vectors.
    assert count_instruction(text, instruction) == {"udot": 8, "uadalp": 12}[instruction]


WINDOWS = {  # shape, ranges, kernel, strides, pads, dilation, groups, gamma
    "plain": ((3, 9, 11, 24), 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 2),
    "depthwise": ((1, 9, 9, 24), 24, (3, 3), (2, 2), (1, 0, 2, 1), (1, 1), 24, 1),
    "groups": ((2, 12, 9, 10), 1, (5, 3), (1, 2), (2, 1, 2, 1), (2, 1), 2, 3),
    "pointwise": ((1, 7, 7, 40), 40, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 4, 1),
    "dense": ((3, 1, 1, 40), 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 1),
}


@pytest.mark.parametrize("mcpu", TARGETS)
@pytest.mark.parametrize("window", WINDOWS)
def test_patch_sums(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, window: str, mcpu: str
) -> None:
    shape, ranges, *rest = WINDOWS[window]
    names = ("kernel", "strides", "pads", "dilation", "groups", "gamma")
    q, p = rng.integers(0, 256, shape).astype("uint8"), qparams(shape[0], ranges)
    make = lambda q, p: ops.patch_sums(q, p, **dict(zip(names, rest, strict=True)))  # noqa: E731
    [found] = evaluate(make, [q, p], mcpu)
    same_bits(found, surrogates.patch_sums(q, p, *rest))


def _codes(rng: Any, *shape: int) -> Any:
    return rng.integers(-127, 128, shape).astype("int8")


@pytest.mark.parametrize(
    ("batch", "channels", "rank", "outputs"), [(3, 24, 5, 10), (1, 10, None, 40), (1, 130, 16, 130)]
)
def test_correction(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any,
    batch: int, channels: int, rank: int | None, outputs: int,
) -> None:  # fmt: skip
    stat, x = _stat(rng, batch, channels), qparams(batch)
    mean = surrogates.moments_of(stat, x, COUNT)[0]
    rows, diagonal = rank or channels, _normal(rng, channels)
    constants = [_codes(rng, rows, outputs), _normal(rng, rows)]
    constants += [_codes(rng, channels, rank)] if rank else []
    [found] = evaluate(lambda *v: ops.correction(*v, count=COUNT), [stat, x, *constants])
    same_bits(found, surrogates.correct(mean, *constants))
    [found] = evaluate(lambda *v: ops.correction(*v, count=COUNT), [stat, x, diagonal])
    same_bits(found, mean * diagonal)
