"""Link a compiled module to a shared library."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

from tvm_probq.build.linker import find_linker
from tvm_probq.errors import KernelError

# Room for linking: code with its debug information, and constants in the object files, the
# library and the linker's own copy.
CODE_BYTES = 16 << 20
CONSTANT_COPIES = 4


class Linkable(Protocol):
    """What can be linked: an executable of TVM, and how much its constants take."""

    @property
    def executable(self) -> Any:
        """What ``tvm.compile`` gave."""

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all constants."""


def link_library(compiled: Linkable, triple: str = "") -> bytes:
    """Link a compiled module to a shared library, the same bytes for the same code.

    Parameters
    ----------
    compiled : Linkable
        The module, such as a `Compiled`.
    triple : str, optional
        What it was compiled for, such as ``aarch64-linux-gnu``; this machine's by default.

    Raises
    ------
    KernelError
        If linking fails: no (cross-)compiler, or no space for temporary files.
    """
    linker = find_linker(triple)
    try:
        with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
            _reserve(Path(folder), CODE_BYTES + CONSTANT_COPIES * compiled.parameter_bytes)
            library = Path(folder, "library.so")
            compiled.executable.export_library(str(library), fcompile=linker, workspace_dir=folder)
            return library.read_bytes()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise KernelError(
            "the compiled model cannot be linked to a library",
            where=f"temporary folder {tempfile.gettempdir()}",
            why=" ".join(why.split()),
            fix="see `tvm-probq doctor`, and that the temporary folder (TMPDIR) has free space",
        ) from error


def _reserve(folder: Path, size: int) -> None:
    """Raise an OSError unless there is room: LLVM ends the whole process on a full disk."""
    path = folder / "reserved"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    path.unlink()
