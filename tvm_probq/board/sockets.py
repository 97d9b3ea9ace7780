"""Plain sockets under a deadline."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

LONGEST_ANSWER = 1 << 20


def left(deadline: float) -> float:
    """Seconds until a time of the monotonic clock, at least a little: 0 would mean no wait."""
    return max(0.01, deadline - time.monotonic())


def send_int(sock: socket.socket, number: int) -> None:
    """Send a number of 32 bits."""
    sock.sendall(struct.pack("<i", number))


def receive_int(sock: socket.socket, deadline: float) -> int:
    """Receive a number of 32 bits."""
    (number,) = struct.unpack("<i", receive(sock, 4, deadline))
    return int(number)


def send_json(sock: socket.socket, message: Any) -> None:
    """Send a message as TVM's tracker and servers do: its length, then JSON."""
    text = json.dumps(message).encode()
    sock.sendall(struct.pack("<i", len(text)) + text)


def receive_json(sock: socket.socket, deadline: float) -> Any:
    """Receive such a message; a ValueError if it is none."""
    size = receive_int(sock, deadline)
    if not 0 <= size <= LONGEST_ANSWER:
        raise ValueError("it speaks another protocol")
    return json.loads(receive(sock, size, deadline))


def receive(sock: socket.socket, size: int, deadline: float) -> bytes:
    """Receive so many bytes.

    Raises
    ------
    TimeoutError
        If they are not there by the deadline.
    ConnectionError
        If the other end closes the connection.
    """
    parts = b""
    while len(parts) < size:
        sock.settimeout(left(deadline))
        block = sock.recv(size - len(parts))
        if not block:
            raise ConnectionError("the connection was closed")
        parts += block
    return parts
