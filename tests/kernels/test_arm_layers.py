"""Layer kernels for 64-bit ARM against the NumPy definition, bit for bit, on the emulated board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from emulation import EmulatedBoard, arm_target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_cases import (
    AT_THE_LIMIT,
    CASES,
    arguments_at_the_limit,
    dense,
    depthwise,
    expected,
    kernel_arguments,
    layer,
    name,
    random_arguments,
)
from random_layers import layers

from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.codes import DEPTHWISE_WIDTHS
from tvm_probq.kernels.layer import layer_kernel, pack_weights
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

MAX_WORKSPACE = 32 * 1024
PRODUCTS = {"cortex-a72": "smull", "cortex-a76": "sdot", "neoverse-v1": "smmla"}


@pytest.fixture(params=PRODUCTS)
def mcpu(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def compiled(spec: LayerSpec, mcpu: str, tile: Tile | None = None) -> Any:
    kernel = layer_kernel(spec, arm_target(mcpu), tile)
    func = kernel.func.with_attr("global_symbol", "main")
    return kernel, tvm.tirx.build(func, target=arm_target(mcpu))


def check(board: EmulatedBoard, spec: LayerSpec, mcpu: str, values: dict[str, Any]) -> None:
    _, library = compiled(spec, mcpu)
    want = expected(spec, values)
    arguments = kernel_arguments(spec, arm_target(mcpu), values)
    (got,) = board.run(library, arguments, mcpu, outputs=1)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.reshape(want.shape), want)


@pytest.mark.parametrize("spec", CASES, ids=name)
def test_equals_the_simulator(emulated_board: EmulatedBoard, spec: LayerSpec, mcpu: str) -> None:
    check(emulated_board, spec, mcpu, random_arguments(spec))


@pytest.mark.parametrize("spec", CASES[::3], ids=name)
def test_has_its_instruction_and_little_memory(spec: LayerSpec, mcpu: str) -> None:
    kernel, library = compiled(spec, mcpu)
    one = spec.out_height * spec.out_width == 1
    wanted = PRODUCTS[mcpu]
    if spec.depthwise or (one and wanted == "smmla"):
        wanted = "smull" if spec.depthwise else "sdot"
    allowed = {wanted}
    if wanted == "smull" and spec.weight_bits < 8 and not spec.depthwise:
        allowed.add("smlal")  # products of small weights are added in 16 bits
    if spec.in_bits == 16:
        allowed = {"smlal", "smull"} if spec.group_inputs <= 8 else {"smlal"}
    assert kernel.instruction in allowed
    assembly = str(library.inspect_source("asm"))
    assert count_instruction(assembly, kernel.instruction) > 0
    assert kernel.workspace_bytes <= MAX_WORKSPACE


@pytest.mark.parametrize(
    ("spec", "instruction"),
    [
        (layer(4, 4, 16, 8, weight_bits=4), "smull"),  # one chunk: its second half is smlal2
        (layer(4, 4, 24, 8, weight_bits=4), "smlal"),
        (layer(4, 4, 240, 8, weight_bits=4), "smlal"),
        (layer(4, 4, 256, 8, weight_bits=4), "smull"),  # too many for 16 bits
        (layer(8, 8, 8, 8, 3, p=1, weight_bits=4), "smlal"),
        (layer(9, 9, 16, 8, 7, p=3, groups=2, weight_bits=4), "smull"),  # one for each of 49 taps
        (layer(6, 6, 32, 8, 3, p=1, weight_bits=4), "smlal"),
        (depthwise(6, 6, 8, weight_bits=4), "smull"),
        (layer(4, 4, 56, 8, weight_bits=6), "smlal"),  # seven products fit
        (layer(4, 4, 64, 8, weight_bits=6), "smull"),
        (layer(4, 4, 1016, 8, weight_bits=2), "smlal"),
        (layer(4, 4, 1024, 8, weight_bits=2), "smull"),
        (layer(4, 4, 8, 8, in_bits=16), "smull"),
        (layer(4, 4, 5, 8, in_bits=16, weight_bits=4), "smull"),
        (layer(4, 4, 12, 8, in_bits=16), "smlal"),
        (layer(4, 4, 8, 8, in_bits=16, groups=2), "smull"),
        (layer(4, 4, 8, 8, 3, p=1, in_bits=16), "smlal"),
        (layer(4, 4, 32, 8, in_bits=16, weight_bits=2), "smlal"),
        (depthwise(6, 6, 8, in_bits=16), "smlal"),
        (depthwise(6, 6, 8, 1, in_bits=16, output="int32"), "smlal"),
    ],
    ids=str,
)
def test_products_of_small_weights(spec: LayerSpec, instruction: str) -> None:
    kernel, library = compiled(spec, "cortex-a72")
    assert kernel.instruction == instruction
    assert count_instruction(str(library.inspect_source("asm")), instruction) > 0


def test_two_products_are_added_in_16_bits_only_if_they_fit() -> None:
    spec = layer(8, 8, 64, 64, 3, p=1)
    for symmetric in (False, True):
        _, library = compiled(replace(spec, symmetric=symmetric), "cortex-a72")
        assembly = str(library.inspect_source("asm"))
        adding = sum(count_instruction(assembly, m) for m in ("smlal", "smlal2"))
        assert (adding > 0) is symmetric


@pytest.mark.parametrize(
    ("bits", "inputs"),
    [(4, 16), (4, 248), (4, 256), (4, 800), (6, 56), (6, 64), (2, 1016), (2, 1024)],
)
def test_long_sums_of_small_weights_do_not_overflow(
    emulated_board: EmulatedBoard, bits: int, inputs: int
) -> None:
    shapes = ((3, 3, inputs, 12), (4, 4, 48, 8, 3))
    for spec in (layer(*shape, weight_bits=bits) for shape in shapes):
        values = random_arguments(spec)
        values["X"][:], values["weights"][:] = 0, -(1 << bits - 1)
        values["WS"] = values["weights"].sum((1, 2, 3)).astype(np.int32)
        check(emulated_board, spec, "cortex-a72", values)


@pytest.mark.parametrize("output", ["codes", "float32"])
@pytest.mark.parametrize("bounds", ["clip(0,6)", "clip(-inf,inf)"])
@pytest.mark.parametrize("ranges", [1, 16])
def test_not_a_number_becomes_the_lower_bound(
    emulated_board: EmulatedBoard, mcpu: str, output: str, bounds: str, ranges: int
) -> None:
    spec = layer(4, 4, 16, 16, output=output, activation=bounds, out_ranges=ranges)
    values = random_arguments(spec)
    values["B"][::3] = np.nan
    values["B"][1::3] = np.inf
    values["B"][2::3] = -np.inf
    check(emulated_board, spec, mcpu, values)


@pytest.mark.parametrize("make", [layer, depthwise, dense])
@pytest.mark.parametrize("code", [0, 255])
@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(-128, 127, 8), (-127, 127, 8), (-32, 31, 6), (-8, 7, 4), (-2, 1, 2)],
)
def test_extreme_codes_do_not_overflow(
    emulated_board: EmulatedBoard, mcpu: str, low: int, high: int, bits: int, code: int,
    make: Callable[..., LayerSpec],
) -> None:  # fmt: skip
    if make is depthwise and bits not in DEPTHWISE_WIDTHS:
        pytest.skip(f"depthwise layers have no kernel for {bits} bits")
    shapes: dict[Any, Any] = {layer: (3, 3, 64, 16, 3), depthwise: (5, 5, 64, 7), dense: (64, 16)}
    spec = make(*shapes[make], output="int32", weight_bits=bits, symmetric=low == -127)
    values = random_arguments(spec)
    values["X"][:] = code
    values["weights"][:8], values["weights"][8:] = low, high
    check(emulated_board, spec, mcpu, values)


@pytest.mark.parametrize("spec", AT_THE_LIMIT, ids=name)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_limit_of_int32(
    emulated_board: EmulatedBoard, mcpu: str, spec: LayerSpec, sign: int
) -> None:
    check(emulated_board, spec, mcpu, arguments_at_the_limit(spec, sign))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=layers(), seed=st.integers(0, 99))
def test_any_small_layer_equals_the_simulator(
    emulated_board: EmulatedBoard, mcpu: str, spec: LayerSpec, seed: int
) -> None:
    check(emulated_board, spec, mcpu, random_arguments(spec, seed))


@pytest.mark.parametrize("tile", [Tile(1, 1, 1, 14, 1), Tile(3, 2, 7, 2, 5), Tile(5, 3, 14, 1, 1)])
def test_the_result_does_not_depend_on_the_tile(
    emulated_board: EmulatedBoard, mcpu: str, tile: Tile
) -> None:
    spec = layer(14, 14, 24, 40, 3, p=1, residual=True, symmetric=True)
    if tile.blocks != 2:
        tile = replace(tile, channel_tasks=1)
    values, target = random_arguments(spec), arm_target(mcpu)
    _, library = compiled(spec, mcpu, tile)
    arguments = kernel_arguments(spec, target, values)
    arguments[1] = pack_weights(spec, values["weights"], target, tile)
    (got,) = emulated_board.run(library, arguments, mcpu, outputs=1)
    np.testing.assert_array_equal(got, expected(spec, values))


def test_a_weight_of_minus_128_is_refused_where_none_is_said_to_be() -> None:
    spec = dense(16, 8, symmetric=True)
    weights = np.full((8, 1, 1, 16), -128, np.int8)
    with pytest.raises(KernelError, match="-128"):
        pack_weights(spec, weights, arm_target("cortex-a72"))


def test_a_tile_that_does_not_divide_the_layer_is_refused() -> None:
    with pytest.raises(KernelError, match="does not divide"):
        layer_kernel(layer(14, 14, 16, 16), arm_target("cortex-a76"), Tile(4, 2, 1, 5, 1))


def test_a_trace_of_metaschedule_is_refused() -> None:
    with pytest.raises(KernelError, match="MetaSchedule"):
        layer_kernel(dense(16, 8), arm_target("cortex-a76"), Tile(1, 1, 1, 1, 1, trace="[]"))
