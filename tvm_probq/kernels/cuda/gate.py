"""Make sure that every kernel has its instruction, and fits a multiprocessor."""

from __future__ import annotations

import re
from typing import Any

from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda.fours import INSTRUCTION
from tvm_probq.kernels.cuda.nvcc import Program, Uses
from tvm_probq.kernels.cuda.tiles import SHARED_BYTES

MOST_REGISTERS = 255
MOST_SPILLED = 64  # bytes of a thread: a few addresses, but no sums
# How an instruction shows in assembly, and in a call of device code without it.
SPELLINGS = {INSTRUCTION: ".u4.s4."}
MARKS = {"mma.sync": ", true, false>", INSTRUCTION: ", true, true>", "dp4a": ""}
_ENTRY = re.compile(
    r'^extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\([^;{]*\{(.*?)^\}',
    re.MULTILINE | re.DOTALL,
)


def device_sources(executable: Any) -> list[str]:
    """The CUDA C++ of all modules of an executable."""
    found, pending = [], [executable.mod if hasattr(executable, "mod") else executable]
    while pending:
        module = pending.pop()
        pending += list(module.imports)
        if module.kind == "cuda":
            found.append(str(module.inspect_source("cuda")))
    return found


def check_program(expected: dict[str, str], source: str, program: Program | None) -> dict[str, int]:
    """Occurrences of its instruction in each kernel.

    Parameters
    ----------
    expected : dict of str to str
        By kernel, the mnemonic that it was made for.
    source : str
        CUDA C++ of all kernels.
    program : Program, optional
        What nvcc made of it; without, the calls in the source are counted.

    Raises
    ------
    KernelError
        If one has none, spills registers, or needs more than a block has.
    """
    if program is None:
        bodies, marks = dict(_ENTRY.findall(source)), MARKS
    else:
        bodies, marks = entries_of(program.ptx), SPELLINGS
        for name in expected:
            _check_uses(name, program.uses.get(f"{name}_kernel"))
    found = {}
    for name, mnemonic in expected.items():
        found[name] = bodies.get(f"{name}_kernel", "").count(
            marks.get(mnemonic, mnemonic) or "probq::"
        )
        if not found[name]:
            raise KernelError(
                f"no {mnemonic} in the device code of the kernel {name}",
                why="the compiler replaced the instruction by other code",
                fix="report it with the versions of TVM and of nvcc",
            )
    return found


def entries_of(ptx: str) -> dict[str, str]:
    """Assembly by kernel."""
    parts = re.split(r"^\.visible \.entry (\w+)\(", ptx, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _check_uses(name: str, uses: Uses | None) -> None:
    if uses is None:
        why = "nvcc does not know it"
    elif uses.spilled_bytes > MOST_SPILLED:
        why = f"{uses.spilled_bytes} bytes of registers go to memory"
    elif uses.shared_bytes > SHARED_BYTES or uses.registers > MOST_REGISTERS:
        why = f"{uses.shared_bytes} bytes of shared memory, {uses.registers} registers"
    else:
        return
    raise KernelError(f"the kernel {name} does not fit a block", why=why, fix="use smaller tiles")
