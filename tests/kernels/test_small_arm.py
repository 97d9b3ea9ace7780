"""Small kernels on 64-bit ARM: vector code that fits the registers, and ARM's own rounding."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import tvm
from emulation import arm_target

from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.byte_sums import byte_sums
from tvm_probq.kernels.gate import functions_of
from tvm_probq.kernels.small.elementwise import add_kernel, quantize_kernel, rescale_kernel
from tvm_probq.kernels.small.machine import is_arm, on_arm, wide
from tvm_probq.kernels.small.pooling import avg_pool_kernel
from tvm_probq.kernels.small.products import ProductSpec, multiply_kernel
from tvm_probq.kernels.small.ranges import observe_kernel
from tvm_probq.kernels.small.transpose import quantize_nchw_kernel
from tvm_probq.simulator.numerics import Activation

SHAPE = (1, 16, 16, 64)
KERNELS: dict[str, Callable[[], Any]] = {
    "observe": lambda: observe_kernel(SHAPE, 255),
    "quantize": lambda: quantize_kernel(SHAPE, 1),
    "quantize_nchw": lambda: quantize_nchw_kernel((1, 3, 64, 64), 1),
    "add": lambda: add_kernel(SHAPE, (1, 1, 1), Activation("clip", low=0.0)),
    "rescale": lambda: rescale_kernel(SHAPE, (1, 1)),
    "multiply": lambda: multiply_kernel(ProductSpec(SHAPE, False, (1, 1, 1))),
    "avg_pool": lambda: avg_pool_kernel(SHAPE, (8, 8)),
}
# A lane of a vector to a general register or to another vector, and a vector to the stack.
LANES = re.compile(r"^\s+([us]mov|ins|mov\s+(v\d+\.[bhsd]\[|[wx]\d+, v))", re.MULTILINE)
SPILLS = re.compile(r"^\s+st[rp]\s+q\d+.*\[sp", re.MULTILINE)


def _code(kernel_assembly: Any, kernel: str, mcpu: str) -> str:
    """The assembly of a kernel without the checks of its arguments."""
    sections = functions_of(kernel_assembly(KERNELS[kernel], arm_target(mcpu)))
    return sections["main_compute_"]


@pytest.mark.parametrize("mcpu", ["cortex-a72", "cortex-a76", "neoverse-v1"])
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "observe"])
def test_vectors_throughout(kernel_assembly: Any, kernel: str, mcpu: str) -> None:
    code = _code(kernel_assembly, kernel, mcpu)
    assert not LANES.findall(code)
    assert not SPILLS.findall(code)
    assert count_instruction(code, "fcvtns") >= 4
    assert count_instruction(code, "frintx") == 0


@pytest.mark.parametrize("kernel", ["quantize", "quantize_nchw", "add", "rescale"])
def test_codes_are_clipped_as_bytes(kernel_assembly: Any, kernel: str) -> None:
    code = _code(kernel_assembly, kernel, "cortex-a72")
    assert count_instruction(code, "sqxtun") >= 1
    assert count_instruction(code, "umin") >= 1
    assert len(re.findall(r"^\s+fmaxnm\s+v", code, re.MULTILINE)) == 0


def test_running_ranges_stay_in_registers(kernel_assembly: Any) -> None:
    code = _code(kernel_assembly, "observe", "cortex-a72")
    assert not SPILLS.findall(code)
    assert count_instruction(code, "bit") + count_instruction(code, "bif") >= 16


def test_arm_of_32_bits_is_another_architecture() -> None:
    config = {"kind": "llvm", "mtriple": "armv7-linux-gnueabihf", "mattr": ["+neon"]}
    target = tvm.target.Target(config)
    assert not is_arm(target)
    assert byte_sums(target) is None


def test_the_target_in_force_decides() -> None:
    assert not on_arm()
    with tvm.target.Target({"kind": "llvm", "mcpu": "haswell"}):
        assert (on_arm(), wide()) == (False, 64)
    with arm_target("cortex-a72"):
        assert (on_arm(), wide()) == (True, 32)
