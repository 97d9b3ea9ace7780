"""Reading of npz arrays a batch at a time, without ever unpickling anything."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.errors import DataError

# What zipfile, zlib and numpy raise on damaged or foreign content.
DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError)
FIX = "write it with numpy.savez or numpy.savez_compressed"


@dataclass(frozen=True)
class ArrayInfo:
    """Form of one stored array, read from its header alone."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def read_headers(path: Path) -> dict[str, ArrayInfo]:
    """Read the form of every array of a file.

    Raises
    ------
    DataError
        If the file is missing, is no npz, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            infos = [_read_header(archive, name, path) for name in names]
    except OSError as error:
        fix = "check the path"
        raise DataError(
            "the file cannot be read", where=str(path), why=str(error), fix=fix
        ) from error
    except DAMAGE as error:
        raise _damaged(path, error) from error
    return {info.key: info for info in infos}


def stream(path: Path, info: ArrayInfo, size: int) -> Iterator[NDArray[Any]]:
    """Give consecutive blocks of at most `size` samples; see `stream_blocks`."""
    count = info.shape[0]
    return stream_blocks(path, info, [min(size, count - i) for i in range(0, count, size)])


def stream_blocks(path: Path, info: ArrayInfo, sizes: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Give consecutive blocks of `sizes` samples; only one is in memory at a time.

    Raises
    ------
    DataError
        If the file ends early, its checksum is wrong, or the array is stored column by column.
    """
    where = f"{path}, array {info.key!r}"
    if info.fortran_order and len(info.shape) > 1:
        why = "its samples do not lie one after the other (Fortran order)"
        fix = "store numpy.ascontiguousarray(x)"
        raise DataError("the array cannot be read in batches", where=where, why=why, fix=fix)
    row_bytes = int(np.prod(info.shape[1:], dtype=np.int64)) * info.dtype.itemsize
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{info.key}.npy") as file:
            _skip_header(file)
            for count in sizes:
                block = _read_exactly(file, count * row_bytes)
                stored = np.frombuffer(block, info.dtype).reshape(count, *info.shape[1:])
                # A writable copy in the machine's byte order.
                yield stored.astype(info.dtype.newbyteorder("="))
            # Reading to the end makes zipfile compare the checksum.
            file.read(1)
    except (*DAMAGE, OSError) as error:
        raise _damaged(path, error) from error


def _read_header(archive: zipfile.ZipFile, name: str, path: Path) -> ArrayInfo:
    with archive.open(name) as file:
        shape, fortran_order, dtype = _skip_header(file)
    key = name.removesuffix(".npy")
    if dtype.hasobject:
        why = "its elements are Python objects, and nothing is ever unpickled"
        fix = "store an array of numbers, with the same shape for every sample"
        where = f"{path}, array {key!r}"
        raise DataError("the array cannot be read", where=where, why=why, fix=fix)
    return ArrayInfo(key, shape, dtype, fortran_order)


def _skip_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the npy format is not supported")


def _read_exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError(f"{count} bytes were expected and {len(data)} are there")
    return data


def _damaged(path: Path, error: Exception) -> DataError:
    what = "the file is no valid npz archive or is damaged"
    fix = f"copy it again, or {FIX}"
    return DataError(what, where=str(path), why=str(error), fix=fix)
