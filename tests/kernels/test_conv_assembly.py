"""Counting instructions and buffers of a kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tvm
from tvm import te

from tvm_probq.kernels.assembly import count_instruction, workspace
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import LayerSpec

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
SPEC = LayerSpec(
    batch=1, height=56, width=56, in_channels=64, out_channels=64, kernel=(3, 3), strides=(1, 1),
    pads=(1, 1, 1, 1), dilation=(1, 1), groups=1, weight_bits=8, activation="none",
    output="codes", correction=False, residual=False, in_ranges=1, out_ranges=1,
)  # fmt: skip
POINTWISE = replace(SPEC, kernel=(1, 1), pads=(0, 0, 0, 0))


def test_counts_whole_mnemonics_only() -> None:
    asm = (
        "\tvpdpbusd\t%zmm1\n vpdpbusds %zmm1\n# vpdpbusd\nvpdpbusd:\n\tvpdpbusd %zmm2 # vpdpbusd\n"
    )
    assert count_instruction(asm, "vpdpbusd") == 2
    assert count_instruction(asm, "vpdpbusds") == 1


def test_instructions_of_arm() -> None:
    asm = (
        "\tsmull\tv0.8h, v1.8b, v2.8b // smull v\n\tsmull2 v0.8h, v1.16b, v2.16b\n"
        "\tsmull x8, w9, w10\n// sdot\n\tsdot\tv0.4s, v1.16b, v2.4b[1]\n\tret\n"
    )
    found = {name: count_instruction(asm, name) for name in ("smull", "smull2", "sdot", "ret")}
    assert set(found.values()) == {1}


def test_splits_buffers_by_width() -> None:
    a = te.placeholder((64,), "uint8", "a")
    narrow = te.compute((64,), lambda i: a[i] + te.const(1, "uint8"), "narrow")
    wide = te.compute((64,), lambda i: narrow[i].astype("int32"), "wide")
    out = te.compute((64,), lambda i: (wide[i] + wide[63 - i]).astype("uint8"), "out")
    assert workspace(te.create_prim_func([a, out])) == (256, 64)


@pytest.mark.parametrize("spec", [SPEC, POINTWISE], ids=str)
def test_accumulators_stay_in_the_tile(spec: LayerSpec) -> None:
    kernel = layer_kernel(spec, TARGET)
    assert kernel.workspace_bytes < 4096  # the int32 tensor would take 800 KB
    assert (kernel.workspace_bytes, kernel.scratch_bytes) == workspace(kernel.func)
    assert bool(kernel.scratch_bytes) == any(spec.pads)
    assert kernel.scratch_bytes <= 64 * 1024


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_the_epilogue_is_vector_code_and_nothing_is_on_the_heap(bits: int) -> None:
    one = {} if bits == 8 else {"height": 1, "width": 1}  # weights of many tiles are unpacked there
    kernel = layer_kernel(replace(POINTWISE, weight_bits=bits, residual=True, **one), TARGET)
    lib = tvm.tirx.build(kernel.func.with_attr("global_symbol", "main"), target=TARGET)
    asm = lib.inspect_source("asm")
    assert count_instruction(lib, "vpdpbusd") > 0
    assert count_instruction(lib, "vcvtps2dq") > 0
    assert count_instruction(lib, "vminss") == 0
    assert count_instruction(lib, "vpextrb") == 0
    assert "TVMBackendAllocWorkspace@" not in asm


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_weights_of_many_positions_are_unpacked_once_a_channel_block(bits: int) -> None:
    spec = replace(POINTWISE, in_channels=256)
    bytes_, packed = (layer_kernel(replace(spec, weight_bits=b), TARGET) for b in (8, bits))
    unpacked = packed.scratch_bytes - bytes_.scratch_bytes
    assert unpacked % (16 * spec.in_channels) == 0
    assert 0 < unpacked < spec.out_channels * spec.in_channels
    functions = (kernel.func.with_attr("global_symbol", "main") for kernel in (bytes_, packed))
    products = [
        count_instruction(tvm.tirx.build(func, target=TARGET), "vpdpbusd") for func in functions
    ]
    assert products[0] == products[1]


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_weights_of_one_position_are_unpacked_in_registers(bits: int) -> None:
    spec = replace(POINTWISE, height=1, width=1, in_channels=256, weight_bits=bits)
    kernel = layer_kernel(spec, TARGET)
    assert kernel.scratch_bytes <= 256 + 16  # registers of one group, and an epilogue's vector
    lib = tvm.tirx.build(kernel.func.with_attr("global_symbol", "main"), target=TARGET)
    asm = lib.inspect_source("asm").splitlines()
    first = next(i for i, line in enumerate(asm) if "vpdpbusd" in line)
    last = max(i for i, line in enumerate(asm) if "vpdpbusd" in line)
    assert not [line for line in asm[first:last] if "vmovdq" in line and "%rsp" in line]


def test_a_wide_image_keeps_its_scratch_small() -> None:
    kernel = layer_kernel(replace(SPEC, width=4000, height=16), TARGET)
    assert kernel.scratch_bytes <= 64 * 1024


def test_small_layers_are_not_parallel() -> None:
    small, large = (layer_kernel(replace(SPEC, height=n, width=n), TARGET) for n in (2, 56))
    assert "T.parallel" not in small.func.script()
    assert "T.parallel" in large.func.script()


def test_attributes_of_a_scheduled_function() -> None:
    attrs = layer_kernel(SPEC, TARGET).func.attrs
    assert attrs["tirx.noalias"]
    assert attrs["tirx.is_scheduled"]
    assert "global_symbol" not in attrs
