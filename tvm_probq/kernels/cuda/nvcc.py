"""NVIDIA's compiler: from CUDA C++ to code of a device, and what it says of each kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_probq.errors import KernelError

USUAL = Path("/usr/local/cuda/bin/nvcc")
# Products that feed sums are explicit fused multiply-adds; no others may be made.
FLAGS = ("-std=c++17", "-O3", "--fmad=false")
_USES = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<spilled>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Uses:
    """What a kernel needs of a multiprocessor: registers of a thread, bytes of a block."""

    registers: int
    shared_bytes: int
    spilled_bytes: int


@dataclass(frozen=True)
class Program:
    """Compiled device code.

    Attributes
    ----------
    ptx : str
        Its assembly.
    image : bytes
        A fat binary: code of one architecture, and the assembly for newer ones.
    uses : dict
        By kernel.
    """

    ptx: str
    image: bytes
    uses: dict[str, Uses]


def find_nvcc() -> str:
    """Where nvcc is, empty without one."""
    found = shutil.which("nvcc")
    return found or (str(USUAL) if USUAL.is_file() else "")


def compile_program(source: str, arch: str) -> Program:
    """Compile CUDA C++.

    Parameters
    ----------
    source : str
        The program.
    arch : str
        Such as ``sm_80``.

    Raises
    ------
    KernelError
        Without nvcc, or with its words, if it fails.
    """
    nvcc, number = find_nvcc(), arch.removeprefix("sm_")
    if not nvcc:
        raise KernelError(
            "there is no CUDA compiler", where=arch, why="nvcc is neither on PATH nor in its place",
            fix="install the CUDA toolkit, or put nvcc on PATH",
        )  # fmt: skip
    code = f"arch=compute_{number},code=[sm_{number},compute_{number}]"
    try:
        with tempfile.TemporaryDirectory(prefix="tvm-probq-") as name:
            folder = Path(name)
            (folder / "kernels.cu").write_text(source, encoding="utf-8")
            _run([nvcc, *FLAGS, f"-arch={arch}", "-ptx", "kernels.cu"], folder)
            said = _run(
                [nvcc, "-gencode", code, "--fatbin", "-Xptxas", "-v", "kernels.ptx"], folder
            )
            ptx = (folder / "kernels.ptx").read_text(encoding="utf-8")
            return Program(ptx, (folder / "kernels.fatbin").read_bytes(), uses_of(said))
    except OSError as error:
        raise KernelError(
            "device code cannot be compiled", where=arch, why=error.strerror or str(error),
            fix="see that the temporary folder (TMPDIR) has free space",
        ) from error  # fmt: skip


def uses_of(text: str) -> dict[str, Uses]:
    """Read what the assembler says of each kernel (``ptxas -v``)."""
    found = {}
    for match in _USES.finditer(text):
        shared = _SHARED.search(match["rest"])
        found[match["name"]] = Uses(
            int(match["registers"]), int(shared[1]) if shared else 0, int(match["spilled"])
        )
    return found


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stderr + done.stdout
    if done.returncode:
        lines = [line for line in said.splitlines() if "error" in line or "fatal" in line]
        raise KernelError(
            "nvcc cannot compile the device code", why=" ".join((lines or [said.strip()])[:3]),
            fix="use CUDA 12 or 13, which know the architecture (`nvcc --list-gpu-arch`)",
        )  # fmt: skip
    return said
