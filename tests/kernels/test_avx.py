"""Which instructions the units without AVX-512 VNNI get, and the code that comes out of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import tvm

from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.geometry import vector_unit
from tvm_probq.kernels.x86.tiles import channel_parts, default_tile

DENSE = LayerSpec(
    batch=1, height=14, width=14, in_channels=64, out_channels=64, kernel=(3, 3), strides=(1, 1),
    pads=(1, 1, 1, 1), dilation=(1, 1), groups=1, weight_bits=8, activation="none",
    output="codes", correction=False, residual=True, in_ranges=1, out_ranges=1,
)  # fmt: skip
SMALL = replace(DENSE, small_weights=True)
NARROW = replace(DENSE, weight_bits=4)
POINTWISE = replace(DENSE, kernel=(1, 1), pads=(0, 0, 0, 0))
DEPTHWISE = replace(DENSE, groups=64)
SIX, TWO = (replace(DENSE, weight_bits=bits) for bits in (6, 2))
SPECS = [DENSE, SMALL, SIX, NARROW, TWO, POINTWISE, DEPTHWISE]
SPECS.append(replace(DEPTHWISE, small_weights=True))
NAMES = ["dense", "small", "six", "narrow", "two", "pointwise", "depthwise", "small depthwise"]
CASES = [
    ("alderlake", DENSE, "vpdpbusd"), ("alderlake", SMALL, "vpdpbusd"),
    ("alderlake", NARROW, "vpdpbusd"), ("haswell", DENSE, "vpmaddwd"),
    ("haswell", SMALL, "vpmaddubsw"), ("haswell", NARROW, "vpmaddubsw"),
    ("haswell", SIX, "vpmaddubsw"), ("skylake-avx512", TWO, "vpmaddubsw"),
    ("skylake-avx512", DENSE, "vpmaddwd"), ("skylake-avx512", SMALL, "vpmaddubsw"),
    ("cascadelake", SMALL, "vpdpbusd"), ("x86-64", DENSE, "pmaddwd"),
    ("x86-64", SMALL, "pmaddwd"),
]  # fmt: skip


def target_of(mcpu: str) -> tvm.target.Target:
    return tvm.target.Target({"kind": "llvm", "mcpu": mcpu})


def assembly_of(spec: LayerSpec, mcpu: str) -> tuple[str, str]:
    """The instruction of a layer's kernel, and its assembly."""
    target = target_of(mcpu)
    kernel = layer_kernel(spec, target)
    assert kernel.workspace_bytes < 4096  # a tile of sums and the vectors of the epilogue
    func = kernel.func.with_attr("global_symbol", "main")
    return kernel.instruction, str(tvm.tirx.build(func, target=target).inspect_source("asm"))


@pytest.mark.parametrize(("mcpu", "spec", "instruction"), CASES)
def test_the_instruction_follows_the_cpu_and_the_weights(
    mcpu: str, spec: LayerSpec, instruction: str
) -> None:
    assert vector_unit(spec, target_of(mcpu)).instruction == instruction


@pytest.mark.parametrize("mcpu", ["alderlake", "haswell", "skylake-avx512", "x86-64"])
@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_kernels_contain_their_instruction_and_no_scalar_code(spec: LayerSpec, mcpu: str) -> None:
    instruction, asm = assembly_of(spec, mcpu)
    assert count_instruction(asm, instruction) > 0
    assert count_instruction(asm, "vpextrb") == 0
    if mcpu in ("alderlake", "haswell"):
        assert "zmm" not in asm
        # The registers from 16 on, and masks, exist with AVX-512 only.
        assert not re.search(r"%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b", asm)
    if mcpu == "skylake-avx512":
        assert re.search(rf"\s{instruction}\s.*%zmm", asm)


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_dot_products_without_avx512_have_the_vex_form(spec: LayerSpec) -> None:
    _, asm = assembly_of(spec, "alderlake")
    found = re.findall(r"^\s+(\{vex\}\s+)?vpdpbusd\s+(.*)$", asm, flags=re.MULTILINE)
    assert all(prefix and "%ymm" in operands for prefix, operands in found)


def test_only_proven_weights_are_multiplied_as_bytes() -> None:
    for spec in (DENSE, POINTWISE, DEPTHWISE):
        for mcpu in ("haswell", "skylake-avx512"):
            _, asm = assembly_of(spec, mcpu)
            assert count_instruction(asm, "vpmaddubsw") == 0
            assert count_instruction(asm, "vpmulld") <= 4  # of zero-points and weight sums


@pytest.mark.parametrize("mcpu", ["alderlake", "haswell", "x86-64"])
@pytest.mark.parametrize("width", [1, 7, 14, 56])
@pytest.mark.parametrize("channels", [16, 64, 1000])
def test_sums_weights_and_operands_fit_the_registers(mcpu: str, width: int, channels: int) -> None:
    spec = replace(DENSE, height=width, width=width, out_channels=channels)
    unit = vector_unit(spec, target_of(mcpu))
    tile = default_tile(spec, unit)
    weights = tile.blocks if tile.columns > 1 else 0
    assert tile.columns * tile.blocks + weights <= unit.room


@pytest.mark.parametrize("channels", [3, 16, 48, 192, 960])
def test_depthwise_channels_are_split_into_equal_vectors(channels: int) -> None:
    spec = replace(
        DEPTHWISE, height=56, width=56, in_channels=channels, out_channels=channels, groups=channels
    )
    padded = -(-channels // 16) * 16
    parts = channel_parts(spec)
    assert padded // 16 % parts == 0
    assert parts == 1 or padded // parts >= 48
