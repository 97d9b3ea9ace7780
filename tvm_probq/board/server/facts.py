"""What the board says of itself: architecture, CPU and versions."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from pathlib import Path
from typing import Any

# Kinds of getauxval in which Linux tells features of 64-bit ARM CPUs.
AT_HWCAP, AT_HWCAP2 = 16, 26
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


def machine_facts() -> dict[str, Any]:
    """Give plain values; the client reads features from them."""
    import numpy as np
    import tvm
    import tvm_ffi

    return {
        "name": platform.node(),
        "machine": platform.machine(),
        "flags": cpu_flags(),
        "hwcaps": hardware_capabilities(),
        "tiles": platform.machine() == "x86_64" and tiles_allowed(),
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {
            "apache-tvm": tvm.__version__,
            "apache-tvm-ffi": tvm_ffi.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def cpu_flags() -> str:
    """Give the line ``flags`` of ``/proc/cpuinfo``, which x86 has."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.split(":")[0].strip() == "flags":
                return line
    return ""


def hardware_capabilities() -> list[int]:
    """Ask Linux for AT_HWCAP and AT_HWCAP2; under an emulator /proc/cpuinfo is the host's."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    return [getauxval(ctypes.c_ulong(kind)) for kind in (AT_HWCAP, AT_HWCAP2)]


def tiles_allowed() -> bool:
    """Ask Linux for the tile registers of AMX; sessions inherit the permission."""
    syscall = ctypes.CDLL(None).syscall
    return int(syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)) == 0
