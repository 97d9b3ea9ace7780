"""Bytes of TVM's handshake, and the question to which the answer is what the board is."""

from __future__ import annotations

import socket
import struct
from typing import Any

# A connection that begins with this number, in place of TVM's, asks for the board's facts.
PROBE_MAGIC = 0x50425131


def receive_int(sock: socket.socket) -> int:
    """Receive a number of 32 bits."""
    from tvm.rpc import base

    (number,) = struct.unpack("<i", base.recvall(sock, 4))
    return int(number)


def receive_key(sock: socket.socket) -> tuple[str, list[str]]:
    """Receive a client's key and its options."""
    from tvm.rpc import base

    key, *options = base.recvall(sock, receive_int(sock)).decode().split() or [""]
    return key, options


def refuse(sock: socket.socket) -> None:
    """Tell a client that its key is wrong."""
    from tvm.rpc import base

    sock.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))


def welcome(sock: socket.socket, key: str) -> None:
    """Tell a client that its session begins."""
    from tvm.rpc import base

    text = f"server:{key}".encode()
    sock.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(text)) + text)


def tell(sock: socket.socket, message: Any) -> None:
    """Send a message as JSON."""
    from tvm.rpc import base

    base.sendjson(sock, message)


def ask(sock: socket.socket, message: Any) -> Any:
    """Send a message as JSON and receive the answer."""
    from tvm.rpc import base

    base.sendjson(sock, message)
    return base.recvjson(sock)


def notice_lost_clients(sock: socket.socket) -> None:
    """Let the connection break a minute after the client's machine has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
