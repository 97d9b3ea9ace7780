"""Writing of files, all or nothing."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from tvm_probq.errors import DataError, ProbqError

FIX = "choose a writable place with free space"
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def write_file(path: Path, data: bytes, *, what: str, kind: type[ProbqError] = DataError) -> None:
    """Write a file under a temporary name beside it and rename it.

    Whatever happens, a full disk or Ctrl-C, either the whole new file is there or nothing has
    changed. What is no regular file, such as a pipe, is written to directly.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    data : bytes
        The whole content.
    what : str
        What to call the file in messages, such as "the artefact".
    kind : type, optional
        The error to raise.

    Raises
    ------
    ProbqError
        Of the given kind, if the file cannot be written.
    """
    try:
        _refuse_read_only(path)
        if _is_special(path):
            with path.open("wb") as file:
                file.write(data)
        else:
            _replace(path.resolve(), data)
    except OSError as error:
        raise _cannot_write(path, what, kind, error) from error


def check_writable(path: Path, *, what: str, kind: type[ProbqError] = DataError) -> None:
    """Raise what `write_file` would, before hours of work are lost; writes nothing lasting."""
    try:
        _refuse_read_only(path)
        if not _is_special(path):
            with tempfile.NamedTemporaryFile(dir=path.resolve().parent, prefix=f".{path.name}."):
                pass
    except OSError as error:
        raise _cannot_write(path, what, kind, error) from error


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # A delayed write error must show here, not after the rename.
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_read_only(path: Path) -> None:
    """Respect a file or a folder that is marked read-only, also as an all-powerful user."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    place = path if path.exists() else path.resolve().parent
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, f"the folder {place} does not exist")
    if not place.stat().st_mode & WRITABLE:
        raise PermissionError(errno.EACCES, f"{place} is marked read-only")
    folder = path.resolve().parent
    if not _is_special(path) and not folder.stat().st_mode & WRITABLE:
        raise PermissionError(errno.EACCES, f"the folder {folder} is marked read-only")


def _is_special(path: Path) -> bool:
    # Renaming over a device or a pipe would replace it by a file.
    return path.exists() and not path.is_file()


def _umask() -> int:
    # The system has no way to read it without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, what: str, kind: type[ProbqError], error: OSError) -> ProbqError:
    why = error.strerror or str(error)
    return kind(f"{what} cannot be written", where=str(path), why=why, fix=FIX)
