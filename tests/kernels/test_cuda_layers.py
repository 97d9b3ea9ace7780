"""Layer kernels for CUDA on the emulated device, against the NumPy definition, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from emulated_gpu import Device, device
from hypothesis import HealthCheck, Phase, given, settings
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
from tvm_probq.kernels.cuda.gate import MOST_SPILLED, check_program, device_sources
from tvm_probq.kernels.cuda.nvcc import compile_program, find_nvcc
from tvm_probq.kernels.cuda.tiles import CANDIDATES, BlockTile
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90"]
# All but those of which two blocks of threads would have to write the same byte.
MADE = [s for s in CASES if s.out_bits != 4 or s.groups == 1 or s.depthwise]
SAMPLE = [layer(8, 8, 64, 64, 3, p=1), layer(24, 24, 3, 24, 3, 2, 1), dense(64, 100, batch=9),
          dense(64, 1000), depthwise(14, 14, 48), layer(14, 14, 32, 48, weight_bits=4),
          layer(14, 14, 32, 48, in_bits=16, out_bits=16),
          layer(14, 14, 32, 48, in_bits=4, out_bits=4)]  # fmt: skip


@pytest.fixture(scope="module")
def gpu() -> Device:
    return device()


def target_of(arch: str = "sm_80") -> tvm.target.Target:
    return tvm.target.Target({"kind": "cuda", "arch": arch}, host={"kind": "llvm"})


def build(functions: dict[str, Any], arch: str = "sm_80") -> Any:
    named = {n: f.with_attr("global_symbol", n) for n, f in functions.items()}
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        return tvm.tirx.build(tvm.IRModule(named), target=target_of(arch), pipeline="s_tir")


@pytest.fixture(scope="module")
def library(gpu: Device) -> Any:
    """The kernels of all cases in one library: compiling each alone takes longer than all else."""
    assert gpu.launches >= 0
    return build({f"case{i}": layer_kernel(s, target_of()).func for i, s in enumerate(MADE)})


def check(spec: LayerSpec, seed: int = 0, tile: Tile | None = None, arch: str = "sm_80") -> None:
    kernel = layer_kernel(spec, target_of(arch), tile)
    run(spec, build({"main": kernel.func}, arch)["main"], seed, arch)


def run(
    spec: LayerSpec, function: Any, seed: int = 0, arch: str = "sm_80", values: Any = None
) -> None:
    """Twice: the second time the threads of a block run in the opposite order."""
    values = values or random_arguments(spec, seed)
    want = expected(spec, values)
    for _ in range(2):
        given_arrays = kernel_arguments(spec, target_of(arch), values)
        arguments = [tvm.runtime.tensor(a, device=tvm.cuda(0)) for a in given_arrays]
        function(*arguments)
        got = arguments[-1].numpy()
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.reshape(want.shape), want)


@pytest.mark.parametrize("index", range(len(MADE)), ids=lambda i: name(MADE[i]))
def test_equals_the_simulator(gpu: Device, library: Any, index: int) -> None:
    before = gpu.launches
    run(MADE[index], library[f"case{index}"])
    assert gpu.launches == before + 2


@pytest.mark.parametrize("spec", AT_THE_LIMIT, ids=name)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_limit_of_int32(gpu: Device, spec: LayerSpec, sign: int) -> None:
    function = build({"main": layer_kernel(spec, target_of()).func})["main"]
    run(spec, function, values=arguments_at_the_limit(spec, sign))


@settings(
    max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(spec=layers(), seed=st.integers(0, 99))
def test_random_layers_equal_the_simulator(gpu: Device, spec: LayerSpec, seed: int) -> None:
    check(spec, seed)


@pytest.mark.parametrize("block", CANDIDATES[::3], ids=str)
def test_every_tile_gives_the_same(gpu: Device, block: BlockTile) -> None:
    spec = layer(13, 11, 24, 40, 3, 2, (1, 2, 0, 1), batch=2, residual=True, correction=True)
    check(spec, tile=block.as_tile())


def test_old_devices_use_dot_products(gpu: Device) -> None:
    spec = layer(8, 8, 64, 64, 3, p=1)
    assert layer_kernel(spec, target_of("sm_61")).instruction == "dp4a"
    assert layer_kernel(spec, target_of("sm_75")).instruction == "mma.sync"
    check(spec, arch="sm_61")


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_every_tile_fits_the_registers(arch: str) -> None:
    if not find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    spec = layer(28, 28, 128, 128, 3, p=1, residual=True, correction=True)
    tiles = [block.as_tile() for block in CANDIDATES]
    kernels = {f"layer{i}": layer_kernel(spec, target_of(arch), t) for i, t in enumerate(tiles)}
    (source,) = device_sources(build({n: k.func for n, k in kernels.items()}, arch))
    program = compile_program(source, arch)
    assert {n: k.scratch_bytes for n, k in kernels.items()} == {
        n: program.uses[f"{n}_kernel"].shared_bytes for n in kernels
    }
    assert all(use.spilled_bytes <= MOST_SPILLED for use in program.uses.values())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_instruction_is_in_the_code(arch: str) -> None:
    if not find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    kernels = {f"layer{i}": layer_kernel(s, target_of(arch)) for i, s in enumerate(SAMPLE)}
    (source,) = device_sources(build({n: k.func for n, k in kernels.items()}, arch))
    program = compile_program(source, arch)
    wanted = {n: k.instruction for n, k in kernels.items() if k.instruction}
    assert set(wanted.values()) == {"mma.sync", "dp4a"}
    assert all(check_program(wanted, source, program).values())


def test_a_lost_instruction_is_found() -> None:
    (source,) = device_sources(build({"layer": layer_kernel(SAMPLE[0], target_of()).func}))
    assert check_program({"layer": "mma.sync"}, source, None)["layer"] > 0
    lost = source.replace(", true, false>", ", false, false>")
    with pytest.raises(KernelError, match=r"no mma\.sync in the device code of the kernel layer"):
        check_program({"layer": "mma.sync"}, lost, None)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (BlockTile(128, 100, 64, 32), "warps do not divide the tile"),
        (BlockTile(256, 128, 64, 32), "bytes of shared memory"),
        (BlockTile(128, 128, 128, 64), "256 sums of a thread"),
    ],
)
def test_a_tile_that_does_not_fit_is_refused(tile: BlockTile, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        layer_kernel(SAMPLE[0], target_of(), tile.as_tile())


def test_schedules_of_metaschedule_are_refused() -> None:
    tile = replace(CANDIDATES[0].as_tile(), trace="[]")
    with pytest.raises(KernelError, match="tune with --space template"):
        layer_kernel(SAMPLE[0], target_of(), tile)


@pytest.mark.parametrize("arch", ["sm_50", "sm_60"])
def test_older_architectures_are_refused(arch: str) -> None:
    with pytest.raises(KernelError, match="dp4a needs sm_61"):
        layer_kernel(SAMPLE[0], target_of(arch))


def test_groups_do_not_pack() -> None:
    spec = layer(8, 8, 16, 48, 3, p=1, groups=2, out_bits=4)
    with pytest.raises(KernelError, match="no kernel") as error:
        layer_kernel(spec, target_of())
    assert "groups" in error.value.why


FOURS = [
    layer(8, 8, 64, 64, 3, p=1, in_bits=4, weight_bits=4),
    layer(13, 11, 24, 40, 3, 2, (1, 2, 0, 1), batch=2, residual=True, correction=True, in_bits=4,
          weight_bits=2),
    layer(8, 8, 72, 24, 3, p=1, in_bits=4, out_bits=4, weight_bits=4),
    dense(96, 40, batch=16, in_bits=4, weight_bits=4),
]  # fmt: skip


@pytest.mark.parametrize("arch", ["sm_75", "sm_89"])
def test_codes_and_weights_of_4_bits_have_tensor_cores_of_their_own(gpu: Device, arch: str) -> None:
    assert gpu.launches >= 0
    for spec in FOURS:
        assert layer_kernel(spec, target_of(arch)).instruction == "mma.u4.s4"
        check(spec, arch=arch)
    newer = layer_kernel(FOURS[0], target_of("sm_90"))
    assert newer.instruction == "mma.sync"
    for other in ({"weight_bits": 6}, {"weight_group": 32}, {"in_bits": 8}):
        assert layer_kernel(replace(FOURS[0], **other), target_of(arch)).instruction == "mma.sync"


@pytest.mark.parametrize("arch", ["sm_75", "sm_80"])
def test_their_instruction_is_in_the_code(arch: str) -> None:
    if not find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    kernels = {f"layer{i}": layer_kernel(s, target_of(arch)) for i, s in enumerate(FOURS)}
    (source,) = device_sources(build({n: k.func for n, k in kernels.items()}, arch))
    wanted = {n: k.instruction for n, k in kernels.items()}
    assert all(check_program(wanted, source, compile_program(source, arch)).values())
    assert all(check_program(wanted, source, None).values())
