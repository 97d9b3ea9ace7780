"""What this machine's processor can do, in LLVM's names of features."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterable
from pathlib import Path

AMX, TILE = "amx-", "amx-tile"
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18
CPU_INFO = Path("/proc/cpuinfo")
# Where the kernel's name of a feature is not LLVM's, underscores aside.
LLVM_NAMES = {
    "bmi1": "bmi", "abm": "lzcnt", "pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2",
    "amx_tile": "amx-tile", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16",
}  # fmt: skip
ARM_KEY = "Features"  # of /proc/cpuinfo, where x86 has "flags"
ARM_NAMES = {
    "fp": "fp-armv8", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fullfp16",
    "asimdfhm": "fp16fml", "asimdrdm": "rdm", "atomics": "lse", "crc32": "crc", "lrcpc": "rcpc",
    "fcma": "complxnum", "jscvt": "jsconv",
}  # fmt: skip


def architecture_named(name: str) -> str:
    """One name for an architecture that systems and triples name differently."""
    return {"AMD64": "x86_64", "amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def host_architecture() -> str:
    """Give the processor's architecture, such as ``x86_64``."""
    return architecture_named(platform.machine())


@functools.cache
def host_features() -> frozenset[str]:
    """Give the features of this machine's CPU, in LLVM's names.

    The kernel's list is asked first: a virtual machine may hide features that a CPU of this
    name has, and code that uses them would die of an illegal instruction.
    """
    try:
        text = CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        text = ""
    features = parse_cpu_info(text) or _features_by_name()
    if TILE not in features or tiles_allowed():
        return features
    return frozenset(f for f in features if not f.startswith(AMX))


def tiles_allowed() -> bool:
    """Ask Linux for the tile registers of AMX, which it gives to processes that ask."""
    try:
        syscall = ctypes.CDLL(None).syscall
    except (OSError, AttributeError):
        return False
    return int(syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)) == 0


def parse_cpu_info(text: str) -> frozenset[str]:
    """Read the flags of the first processor of ``/proc/cpuinfo``; empty where it has none."""
    for line in text.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", ARM_KEY):
            names = ARM_NAMES if key.strip() == ARM_KEY else LLVM_NAMES
            return frozenset(names.get(f, f.replace("_", "")) for f in flags.split())
    return frozenset()


def missing_features(required: Iterable[str]) -> tuple[str, ...]:
    """Give those of the required features that this machine lacks, in the given order."""
    present = host_features()
    return tuple(feature for feature in required if feature not in present)


def _features_by_name() -> frozenset[str]:
    # Imported here: it takes a second, and only systems without /proc need it.
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_cpu_features, llvm_get_system_cpu

    target = Target({"kind": "llvm", "mcpu": llvm_get_system_cpu()})
    return frozenset(str(feature) for feature in llvm_get_cpu_features(target))
