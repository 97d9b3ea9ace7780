"""Features of a board's CPU in LLVM's names, from what its kernel tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm_probq.target.host import AMX, parse_cpu_info

# Bits of AT_HWCAP and AT_HWCAP2 of Linux on 64-bit ARM (arch/arm64/include/uapi/asm/hwcap.h).
HWCAP = {
    0: "fp-armv8", 1: "neon", 3: "aes", 6: "sha2", 7: "crc", 8: "lse", 10: "fullfp16", 12: "rdm",
    13: "jsconv", 14: "complxnum", 15: "rcpc", 16: "ccpp", 17: "sha3", 19: "sm4", 20: "dotprod",
    22: "sve", 23: "fp16fml", 24: "dit", 25: "lse2", 26: "rcpc-immo", 27: "flagm", 28: "ssbs",
    29: "sb", 30: "pauth",
}  # fmt: skip
HWCAP2 = {
    0: "ccdp", 1: "sve2", 2: "sve-aes", 4: "sve-bitperm", 5: "sve-sha3", 6: "sve-sm4",
    7: "altnzcv", 8: "fptoint", 10: "f32mm", 11: "f64mm", 13: "i8mm", 14: "bf16", 16: "rand",
    17: "bti", 18: "mte", 23: "sme",
}  # fmt: skip


def features_of(facts: Mapping[str, Any]) -> frozenset[str]:
    """Give the features that a server's facts tell of; none for an unknown architecture."""
    if facts["machine"] == "aarch64":
        return arm_features(facts["hwcaps"])
    found = parse_cpu_info(facts["flags"])
    return found if facts["tiles"] else frozenset(f for f in found if not f.startswith(AMX))


def arm_features(hwcaps: Sequence[int]) -> frozenset[str]:
    """Read AT_HWCAP and AT_HWCAP2."""
    return frozenset(
        name
        for value, names in zip(hwcaps, (HWCAP, HWCAP2), strict=True)
        for bit, name in names.items()
        if value >> bit & 1
    )
