"""What kernels tell of CPUs, in LLVM's names."""

from __future__ import annotations

import pytest

from tvm_probq.board.features import HWCAP, HWCAP2, arm_features, features_of
from tvm_probq.target.llvm import check_cpu
from tvm_probq.target.profile import load_profile, profile_names


def test_a_raspberry_pi() -> None:
    found = arm_features([1 << 20 | 1 << 10 | 1 << 8 | 0b11, 0])
    assert found == {"fp-armv8", "neon", "lse", "fullfp16", "dotprod"}


def test_the_second_word() -> None:
    assert arm_features([0, 1 << 13 | 1 << 1]) == {"i8mm", "sve2"}


def test_every_name_is_llvms() -> None:
    attributes = [f"+{name}" for name in (*HWCAP.values(), *HWCAP2.values())]
    check_cpu({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": attributes}, "the table")


@pytest.mark.parametrize("name", [n for n in profile_names() if n.startswith("arm-")])
def test_the_features_of_every_arm_profile_can_be_told(name: str) -> None:
    profile = load_profile(name)
    if profile.architecture != "aarch64":
        pytest.skip(f"{name} is not 64-bit")
    assert set(profile.features) <= {*HWCAP.values(), *HWCAP2.values()}


def test_x86_and_its_tiles_that_must_be_asked_for() -> None:
    line = "flags\t\t: fpu sse4_1 avx2 amx_tile amx_int8"
    facts = {"machine": "x86_64", "flags": line, "hwcaps": [2, 2]}
    assert features_of({**facts, "tiles": True}) == {
        "fpu", "sse4.1", "avx2", "amx-tile", "amx-int8",
    }  # fmt: skip
    assert features_of({**facts, "tiles": False}) == {"fpu", "sse4.1", "avx2"}
