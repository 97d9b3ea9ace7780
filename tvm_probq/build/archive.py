"""The outer form of an artefact: a zip with the same bytes for the same content."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from tvm_probq.errors import ArtefactError

ZIP_MAGIC = b"PK\x03\x04"
# The earliest time a zip can hold: real times would make equal artefacts differ.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
UNIX = 3
# What zipfile and zlib raise on damaged content.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # an edited flag makes a member look encrypted
    OSError,  # an edited offset makes a member lie outside the file
)


def pack(members: dict[str, bytes]) -> bytes:
    """Zip members in the given order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            # The name of the writing system would be in the file otherwise.
            info.create_system = UNIX
            archive.writestr(info, content)
    return stream.getvalue()


def unpack(path: Path) -> dict[str, bytes]:
    """Read every member of an artefact.

    Raises
    ------
    ArtefactError
        If the file is missing, no zip, truncated or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            "the artefact cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            fix="check the path",
        ) from error
    if not content.startswith(ZIP_MAGIC):
        raise not_an_artefact(path, "it is no zip archive" if content else "it is empty")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except DAMAGE as error:
        raise damaged(path, f"it is truncated or edited ({error})") from error


def is_archive(path: Path) -> bool:
    """Whether a file begins like an artefact, damaged or not; False for what cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def damaged(path: Path, why: str) -> ArtefactError:
    """Make the error for an artefact that was one."""
    fix = "copy it again, or compile the model again"
    return ArtefactError("the artefact is damaged", where=str(path), why=why, fix=fix)


def not_an_artefact(path: Path, why: str) -> ArtefactError:
    """Make the error for a file that never was one."""
    fix = "give a file that `tvm-probq compile` wrote"
    return ArtefactError("the file is no artefact", where=str(path), why=why, fix=fix)
