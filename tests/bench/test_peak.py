"""The peak of an instruction: measured where it is, and only if the kernel is what it should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.bench.peak import (
    BYTES,
    NAME,
    NARROW,
    PEAKS,
    ROUNDS,
    check_peak,
    compile_peak,
    peak_gmacs,
)
from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.target.profile import load_profile

PROFILES = {"vpdpbusd": "x86-vnni", "tdpbusd": "x86-amx"}
LOOP = "".join(f"\tvpdpbusd\t%zmm13, %zmm12, %zmm{i}\n" for i in range(PEAKS["vpdpbusd"].count))
INSTRUCTIONS = pytest.mark.parametrize("instruction", sorted(PEAKS))


def target_of(instruction: str) -> Any:
    return load_profile(PROFILES[instruction]).target()


def needs(instruction: str) -> None:
    if not load_profile(PROFILES[instruction]).runs_here:
        pytest.skip(f"needs a CPU with {instruction}")


def test_an_instruction_without_a_kernel_has_no_peak() -> None:
    assert peak_gmacs("sdot", target_of("vpdpbusd")) is None
    assert peak_gmacs("", target_of("vpdpbusd")) is None


@INSTRUCTIONS
def test_the_kernel_keeps_its_sums_in_registers(instruction: str) -> None:
    # Compiling for an instruction needs no machine that has it.
    text = str(compile_peak(PEAKS[instruction], target_of(instruction)).inspect_source("asm"))
    check_peak(text, instruction)
    assert count_instruction(text, instruction) >= PEAKS[instruction].count


@INSTRUCTIONS
def test_the_kernel_does_the_work_that_is_counted(instruction: str) -> None:
    needs(instruction)
    peak = PEAKS[instruction]
    sums = tvm.runtime.tensor(np.zeros(peak.count * peak.lanes, np.int32))
    operands = [np.full(BYTES, 3, np.uint8), np.full(BYTES, -2, np.int8)]
    library = compile_peak(peak, target_of(instruction))
    library[NAME](*(tvm.runtime.tensor(operand) for operand in operands), sums)
    # Each multiply-accumulate adds -6 to one of an instruction's lanes.
    assert set(sums.numpy().tolist()) == {-6 * peak.macs // peak.lanes * ROUNDS}


@INSTRUCTIONS
def test_the_peak_is_a_speed(instruction: str) -> None:
    needs(instruction)
    peak = peak_gmacs(instruction, target_of(instruction))
    assert peak is not None
    assert peak > 0


def test_a_dropped_instruction_is_an_error() -> None:
    with pytest.raises(KernelError, match="0 of 12 vpdpbusd are in the assembly"):
        check_peak("\tvpmaddubsw\t%zmm1, %zmm2, %zmm3\n", "vpdpbusd")


def test_a_spilled_sum_is_an_error() -> None:
    check_peak(LOOP, "vpdpbusd")
    for address in ("64(%rsp)", "-128(%rbp)"):
        with pytest.raises(KernelError, match="on the stack"):
            check_peak(LOOP + f"\tvmovdqa64\t%zmm3, {address}\n" + LOOP, "vpdpbusd")
    check_peak("\tvmovups\t%xmm0, 8(%rsp)\n" + LOOP, "vpdpbusd")


def test_without_avx512_the_peak_is_that_of_256_bits() -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": "alderlake"})
    text = str(compile_peak(NARROW, target).inspect_source("asm"))
    check_peak(text, "vpdpbusd")
    assert "zmm" not in text
