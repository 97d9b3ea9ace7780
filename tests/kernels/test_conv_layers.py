"""Layer kernels against the NumPy definition, bit for bit, on every x86 instruction set at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_cases import (
    AT_THE_LIMIT,
    CASES,
    arguments_at_the_limit,
    depthwise,
    expected,
    kernel_arguments,
    layer,
    name,
    random_arguments,
)
from random_layers import layers

from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.codes import DEPTHWISE_WIDTHS
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.target.host import missing_features

MAX_WORKSPACE = 32 * 1024
FEATURES = {
    "sapphirerapids": "amx-int8", "cascadelake": "avx512vnni", "alderlake": "avxvnni",
    "skylake-avx512": "avx512bw", "haswell": "avx2", "x86-64": "sse2",
}  # fmt: skip


@pytest.fixture(params=FEATURES)
def target(request: pytest.FixtureRequest) -> tvm.target.Target:
    if missing_features([FEATURES[request.param]]):
        pytest.skip(
            f"this CPU has no {FEATURES[request.param]}, code for {request.param} cannot run"
        )
    return tvm.target.Target({"kind": "llvm", "mcpu": request.param})


def compile_kernel(kernel: Kernel, target: tvm.target.Target) -> Any:
    return tvm.tirx.build(kernel.func.with_attr("global_symbol", "main"), target=target)


def run(spec: LayerSpec, target: tvm.target.Target, lib: Any, values: dict[str, Any]) -> Any:
    arguments = [tvm.runtime.tensor(a) for a in kernel_arguments(spec, target, values)]
    lib["main"](*arguments)
    return arguments[-1].numpy()


def check(spec: LayerSpec, target: tvm.target.Target, seed: int = 0) -> tuple[Kernel, Any]:
    values = random_arguments(spec, seed)
    kernel = layer_kernel(spec, target)
    lib = compile_kernel(kernel, target)
    want = expected(spec, values)
    got = run(spec, target, lib, values)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.reshape(want.shape), want)
    return kernel, lib


@pytest.mark.parametrize("spec", CASES, ids=name)
def test_equals_the_simulator(spec: LayerSpec, target: tvm.target.Target) -> None:
    kernel, lib = check(spec, target)
    assert kernel.workspace_bytes <= MAX_WORKSPACE
    assert not kernel.instruction or count_instruction(lib, kernel.instruction) > 0
    assert kernel.instruction or spec.depthwise


@pytest.mark.parametrize("output", ["codes", "float32"])
@pytest.mark.parametrize("bounds", ["clip(0,6)", "clip(-inf,inf)"])
def test_not_a_number_becomes_the_lower_bound(
    target: tvm.target.Target, output: str, bounds: str
) -> None:
    spec = layer(4, 4, 16, 16, output=output, activation=bounds)
    values = random_arguments(spec)
    values["B"][::3] = np.nan
    values["B"][1::3] = np.inf
    lib = compile_kernel(layer_kernel(spec, target), target)
    np.testing.assert_array_equal(run(spec, target, lib, values), expected(spec, values))


@pytest.mark.parametrize("make", [layer, depthwise])
@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(-128, 127, 8), (-64, 64, 8), (-32, 31, 6), (-8, 7, 4), (-2, 1, 2)],
)
def test_extreme_codes_do_not_saturate(
    target: tvm.target.Target, low: int, high: int, bits: int, make: Callable[..., LayerSpec]
) -> None:
    if make is depthwise and bits not in DEPTHWISE_WIDTHS:
        pytest.skip(f"depthwise layers have no kernel for {bits} bits")
    shape = (3, 3, 64, 16) if make is layer else (5, 5, 64)
    spec = make(*shape, 3, p=1, output="int32", weight_bits=bits, small_weights=low == -64)
    values = random_arguments(spec)
    values["X"][:] = 255
    values["weights"][:8], values["weights"][8:] = low, high
    lib = compile_kernel(layer_kernel(spec, target), target)
    np.testing.assert_array_equal(run(spec, target, lib, values), expected(spec, values))


@pytest.mark.parametrize("spec", AT_THE_LIMIT, ids=name)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_limit_of_int32(target: tvm.target.Target, spec: LayerSpec, sign: int) -> None:
    values = arguments_at_the_limit(spec, sign)
    lib = compile_kernel(layer_kernel(spec, target), target)
    want = expected(spec, values)
    got = run(spec, target, lib, values).reshape(want.shape)
    np.testing.assert_array_equal(got, want)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=layers(), seed=st.integers(0, 99))
def test_any_small_layer_equals_the_simulator(
    target: tvm.target.Target, spec: LayerSpec, seed: int
) -> None:
    check(spec, target, seed)
