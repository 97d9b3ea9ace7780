"""What the kernels refuse, and how they say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.checks import check_spec
from tvm_probq.kernels.codes import stored_bits
from tvm_probq.kernels.layer import layer_kernel, pack_weights, packed_shape
from tvm_probq.kernels.spec import LayerSpec

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})
ARM = [
    tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": mcpu})
    for mcpu in ("cortex-a72", "cortex-a76", "neoverse-v1")
]
SPEC = LayerSpec(
    batch=1, height=8, width=8, in_channels=16, out_channels=24, kernel=(3, 3), strides=(1, 1),
    pads=(1, 1, 1, 1), dilation=(1, 1), groups=1, weight_bits=8, activation="none",
    output="codes", correction=False, residual=False, in_ranges=1, out_ranges=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 0}, "not positive"),
        ({"pads": (0, 0, -1, 0)}, "not positive"),
        ({"groups": 5}, "5 groups do not divide"),
        ({"kernel": (11, 3)}, "output is empty"),
        ({"weight_bits": 3}, "3-bit weights"),
        ({"weight_bits": 6, "groups": 16, "out_channels": 16}, "6-bit weights"),
        ({"activation": "softsign"}, "activation 'softsign'"),
        ({"activation": "clip(1,0)"}, "clip"),
        ({"activation": "clip(1)"}, "clip"),
        ({"activation": "clip(LOW,HIGH)"}, "activation"),
        ({"output": "int8"}, "output 'int8'"),
        ({"out_ranges": 3}, "3 output ranges"),
        ({"in_ranges": 16}, "needs one scale"),
        ({"flat": True}, "height = width = 1"),
        ({"in_channels": 8000}, "overflow int32"),
        ({"output": "int32", "residual": True}, "nothing fused"),
    ],
)
def test_a_wrong_specification_is_refused(change: dict[str, Any], message: str) -> None:
    check_spec(SPEC)
    with pytest.raises(KernelError, match=message) as error:
        layer_kernel(replace(SPEC, **change), TARGET)
    assert "LayerSpec" in error.value.where
    assert error.value.fix


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(KernelError, match="not the weights of the layer"):
        pack_weights(SPEC, np.zeros((24, 16, 3, 3), np.int8), TARGET)


@pytest.mark.parametrize(("bits", "code"), [(6, 32), (6, -33), (4, 8), (4, -9), (2, 2), (2, -3)])
def test_codes_beyond_their_bits_are_refused(bits: int, code: int) -> None:
    weights = np.full((24, 3, 3, 16), code, np.int8)
    with pytest.raises(KernelError, match=f"does not fit {bits} bits"):
        pack_weights(replace(SPEC, weight_bits=bits), weights, TARGET)


@pytest.mark.parametrize("code", [65, -65])
def test_codes_beyond_their_proof_are_refused(code: int) -> None:
    weights = np.full((24, 3, 3, 16), code, np.int8)
    with pytest.raises(KernelError, match="two products do not fit 16 bits.*unset small_weights"):
        pack_weights(replace(SPEC, small_weights=True), weights, TARGET)


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "llvm", "mtriple": "armv7l-linux-gnueabihf", "mcpu": "cortex-a15"},
        {"kind": "llvm", "mtriple": "riscv64-linux-gnu", "mcpu": "generic-rv64"},
    ],
    ids=["arm of 32 bits", "riscv"],
)
def test_another_architecture_is_refused(kind: dict[str, str]) -> None:
    with pytest.raises(KernelError, match="neither x86 nor 64-bit ARM"):
        layer_kernel(SPEC, tvm.target.Target(kind))


@pytest.mark.parametrize(
    ("bits", "groups"),
    [(bits, groups) for bits in (2, 4, 6, 8) for groups in (1, 8)] + [(4, 16), (8, 16)],
)
@pytest.mark.parametrize("mcpu", ["cascadelake", "haswell"])
def test_packed_weights_have_the_stated_shape(bits: int, groups: int, mcpu: str) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    spec = replace(SPEC, weight_bits=bits, groups=groups, out_channels=16 if groups == 16 else 24)
    weights = np.zeros((spec.out_channels, 3, 3, 16 // groups), np.int8)
    packed = pack_weights(spec, weights, target)
    assert (packed.shape, str(packed.dtype)) == packed_shape(spec, target)


@pytest.mark.parametrize("target", [TARGET, *ARM], ids=lambda t: str(t.attrs["mcpu"]))
@pytest.mark.parametrize("bits", [6, 4, 2])
def test_weights_take_their_share_of_the_room(bits: int, target: tvm.target.Target) -> None:
    shapes = [packed_shape(replace(SPEC, weight_bits=b), target)[0] for b in (bits, 8)]
    assert 8 * np.prod(shapes[0]) == bits * np.prod(shapes[1])


@pytest.mark.parametrize(
    ("largest", "bits", "depthwise"),
    [(1, 2, 4), (2, 4, 4), (3, 4, 4), (7, 4, 4), (8, 6, 8), (31, 6, 8), (32, 8, 8), (127, 8, 8)],
)
def test_codes_are_stored_in_the_fewest_bits(largest: int, bits: int, depthwise: int) -> None:
    weights = np.array([0, largest], np.int8)
    assert stored_bits(weights, False) == bits
    assert stored_bits(weights, True) == depthwise
    assert stored_bits(-weights - 1, False) == stored_bits(weights, False)


def test_the_layer_is_named_in_messages() -> None:
    assert str(SPEC) == "conv 3x3/1x1 1x8x8x16 -> 8x8x24"
    assert str(replace(SPEC, groups=8)).endswith("groups 8")
