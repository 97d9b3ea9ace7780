"""The peak of an instruction: measured where it is, and only if the kernel is what it should be."""

from __future__ import annotations

import pytest

from tvm_probq.bench.peak import ACCUMULATORS, check_peak, compile_peak, peak_gmacs
from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.target.profile import load_profile

DOT = "\tvpdpbusd\t%zmm13, %zmm12, %zmm{}\n"
LOOP = "".join(DOT.format(i) for i in range(ACCUMULATORS))


@pytest.fixture(scope="module")
def target() -> object:
    return load_profile("x86-vnni").target()


def test_an_instruction_without_a_kernel_has_no_peak(target: object) -> None:
    assert peak_gmacs("tdpbusd", target) is None
    assert peak_gmacs("", target) is None


def test_the_kernel_keeps_its_sums_in_registers(target: object) -> None:
    # Compiling for VNNI needs no such machine.
    text = str(compile_peak(target).inspect_source("asm"))
    check_peak(text, "vpdpbusd")
    assert count_instruction(text, "vpdpbusd") >= ACCUMULATORS


def test_the_peak_is_a_speed(target: object) -> None:
    if not load_profile("x86-vnni").runs_here:
        pytest.skip("needs a CPU with AVX-512 VNNI")
    peak = peak_gmacs("vpdpbusd", target)
    assert peak is not None
    assert peak > 0


def test_a_dropped_instruction_is_an_error() -> None:
    with pytest.raises(KernelError, match=f"0 of {ACCUMULATORS} vpdpbusd are in the assembly"):
        check_peak("\tvpmaddubsw\t%zmm1, %zmm2, %zmm3\n", "vpdpbusd")


def test_a_spilled_sum_is_an_error() -> None:
    check_peak(LOOP, "vpdpbusd")
    for address in ("64(%rsp)", "-128(%rbp)"):
        with pytest.raises(KernelError, match="on the stack"):
            check_peak(LOOP + f"\tvmovdqa64\t%zmm3, {address}\n" + LOOP, "vpdpbusd")
    check_peak("\tvmovups\t%xmm0, 8(%rsp)\n" + LOOP, "vpdpbusd")
