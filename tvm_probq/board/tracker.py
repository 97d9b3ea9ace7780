"""Borrowing a board from an RPC tracker, under a deadline."""

from __future__ import annotations

import socket
import time

from tvm_probq.board.address import Address
from tvm_probq.board.sockets import left, receive_int, receive_json, send_int, send_json
from tvm_probq.errors import BoardError

# TVM's protocol: tvm/rpc/base.py and tvm/rpc/tracker.py.
TRACKER_MAGIC = 0x2F271
REQUEST, SUMMARY = 4, 6
SUCCESS, PRIORITY = 0, 1
SUMMARY_S = 2.0


def borrow(address: Address, deadline: float) -> tuple[str, int, str]:
    """Wait for a free board of a kind, until a time of the monotonic clock.

    Returns
    -------
    host, port, key
        Where the board is, and the key for this one session.

    Raises
    ------
    BoardError
        If there is no tracker, or no board becomes free in time.
    """
    begin = time.monotonic()
    try:
        with _connected(address, deadline) as tracker:
            send_json(tracker, [REQUEST, address.key, "", PRIORITY])
            status, place = receive_json(tracker, deadline)
            if status != SUCCESS:
                raise ValueError(str(place))
            host, port, key = place
            return str(host), int(port), str(key)
    except TimeoutError as error:
        raise BoardError(
            f"no board became free in {time.monotonic() - begin:.0f} s",
            where=str(address),
            why=_state(address),
            fix="wait, correct --key, or register a board: tvm-probq board serve --tracker "
            f"HOST:PORT --key {address.key}",
        ) from error
    except (OSError, ValueError, TypeError) as error:
        refused = isinstance(error, ConnectionRefusedError)
        raise BoardError(
            "no tracker listens there" if refused else "no RPC tracker answers there",
            where=str(address),
            why=getattr(error, "strerror", None) or str(error),
            fix="start one: python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port 9190",
        ) from error


def count_boards(address: Address) -> int:
    """Count the boards of a kind that a tracker knows, lent or free; 0 if it does not say."""
    try:
        return _keys(address).count(address.key)
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def _state(address: Address) -> str:
    """Say which boards the tracker knows."""
    try:
        keys = _keys(address)
    except (OSError, ValueError, TypeError, KeyError):
        return "the tracker does not answer"
    count = keys.count(address.key)
    if count:
        return f"all boards with this key ({count}) are busy, or do not answer the tracker"
    others = ", ".join(sorted(set(keys))) or "none at all"
    return f"the tracker has no board with this key; it has {others}"


def _keys(address: Address) -> list[str]:
    """Ask the tracker for the key of every board that it knows."""
    deadline = time.monotonic() + SUMMARY_S
    with _connected(address, deadline) as tracker:
        send_json(tracker, [SUMMARY])
        _, summary = receive_json(tracker, deadline)
    return [str(server["key"]).removeprefix("server:") for server in summary["server_info"]]


def _connected(address: Address, deadline: float) -> socket.socket:
    tracker = socket.create_connection((address.host, address.port), left(deadline))
    try:
        send_int(tracker, TRACKER_MAGIC)
        if receive_int(tracker, deadline) != TRACKER_MAGIC:
            raise ValueError("it speaks another protocol")
    except BaseException:
        tracker.close()
        raise
    return tracker
