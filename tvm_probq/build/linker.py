"""The linker of an architecture: this machine's own compiler, or a cross-compiler."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_probq.errors import KernelError
from tvm_probq.target.host import architecture_named, host_architecture

# The oldest C library that code linked by zig runs with: that of TVM's wheels.
ZIG_GLIBC = "2.28"
LIBRARIES = ("-lm",)
SHARED = ("-shared", "-fPIC")
SYSTEM = "linux"


@dataclass(frozen=True)
class Linker:
    """What ``export_library`` takes as ``fcompile``: a command that links objects.

    TVM's own `cross_compiler` adds to one and the same list of options at each call.

    Attributes
    ----------
    command : tuple of str
        The compiler, and its options for every library.
    """

    command: tuple[str, ...]

    def __call__(
        self, output: str, objects: str | Sequence[str], options: Sequence[str] = (), **_: Any
    ) -> None:
        """Link `objects` to the shared library `output`.

        Raises
        ------
        RuntimeError
            With the compiler's words, if it fails.
        """
        files = [objects] if isinstance(objects, str) else list(objects)
        command = [*self.command, *SHARED, "-o", output, *files, *options, *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise RuntimeError(f"{self.command[0]} failed: {said}")


def find_linker(triple: str) -> Callable[..., None] | None:
    """The linker for a target; None for TVM's default, on this machine's own architecture.

    Parameters
    ----------
    triple : str
        Such as ``aarch64-linux-gnu``; empty for this machine.

    Raises
    ------
    KernelError
        If no cross-compiler is installed, which the message names, or the target is no Linux.
    """
    architecture = architecture_named(triple.split("-")[0])
    if architecture in ("", host_architecture()):
        return None
    if SYSTEM not in triple:
        raise KernelError(
            f"this machine cannot link for {triple}",
            why="another architecture is linked for Linux only",
            fix=f"use an mtriple such as {architecture}-linux-gnu, or compile on such a machine",
        )
    gcc = f"{architecture}-linux-gnu-gcc"
    if shutil.which(gcc):
        return Linker((gcc,))
    zig = _zig()
    if zig:
        return Linker((*zig, "cc", "-target", f"{architecture}-linux-gnu.{ZIG_GLIBC}"))
    raise KernelError(
        f"there is no linker for {architecture}",
        why=f"neither {gcc} nor zig is installed",
        fix=(
            f"apt-get install gcc-{_debian(architecture)}-linux-gnu "
            f"libc6-dev-{_debian_port(architecture)}-cross, or pip install ziglang"
        ),
    )


def _zig() -> tuple[str, ...]:
    """The command of zig, empty without one."""
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang")
    found = shutil.which("zig")
    return (found,) if found else ()


def _debian(architecture: str) -> str:
    """An architecture as Debian's names of compilers have it."""
    return architecture.replace("_", "-")


def _debian_port(architecture: str) -> str:
    """An architecture as Debian's names of libraries have it."""
    return {"aarch64": "arm64", "x86_64": "amd64"}.get(architecture, architecture)
