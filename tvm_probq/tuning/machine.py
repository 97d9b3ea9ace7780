"""The name of this machine's processor, for what was measured on it."""

from __future__ import annotations

import platform

from tvm_probq.target.host import CPU_INFO


def machine_name() -> str:
    """Name the processor; virtual machines hide the model's name, but not what LLVM sees in it."""
    from tvm.target.codegen import llvm_get_system_cpu

    name = platform.machine()
    try:
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    except OSError:
        pass
    return f"{name} ({llvm_get_system_cpu()})"
