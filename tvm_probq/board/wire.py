"""Messages between the client and its worker: a table of plain values, and arrays."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
SIZE = struct.Struct("<Q")


def send(stream: IO[bytes], message: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a message; arrays of any plain element type and shape."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    forms = [[name, array.dtype.str, list(arrays[name].shape)] for name, array in whole.items()]
    head = json.dumps({"message": dict(message), "arrays": forms}).encode()
    stream.write(SIZE.pack(len(head)) + head)
    for array in whole.values():
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], Arrays]:
    """Read a message.

    Raises
    ------
    EOFError
        If the other end has closed the pipe.
    """
    (size,) = SIZE.unpack(_exactly(stream, SIZE.size))
    head = json.loads(_exactly(stream, size))
    arrays = {}
    for name, code, shape in head["arrays"]:
        dtype = np.dtype(code)
        count = int(np.prod(shape, dtype=np.int64))
        content = _exactly(stream, count * dtype.itemsize)
        arrays[name] = np.frombuffer(content, dtype).reshape(shape).copy()
    return head["message"], arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content
