"""TVM's RPC tracker as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from boards import wait
from tvm import rpc

from tvm_probq.board.address import Address


@contextmanager
def tracking(port: int = 0) -> Iterator[Address]:
    """TVM's tracker, on a free port unless one is given."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    command = [sys.executable, "-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--port-end", str(port + 1)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait(lambda: listens(port), 60.0)
        yield Address("127.0.0.1", port, "kind", tracker=True)
    finally:
        # TVM's tracker is a process that starts another.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait(lambda: not listens(port))


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_boards(tracker: Address) -> int:
    """How many boards the tracker could lend."""
    summary = rpc.connect_tracker(tracker.host, tracker.port).summary()
    return int(summary["queue_info"].get("kind", {"free": 0})["free"])
