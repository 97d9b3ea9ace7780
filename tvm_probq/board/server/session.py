"""One session: a child process that answers one client, and how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

from .kernels import Kernels
from .wire import notice_lost_clients

GRACE_S = 2.0  # for a session whose client has left
PR_SET_PDEATHSIG = 1
OUT_OF_TIME, CLIENT_LEFT = "out of time", "the client has left"


def run_session(
    sock: socket.socket,
    number: int,
    folder: Path,
    limit_s: float | None,
    started: Callable[[int], None],
) -> str:
    """Answer a client in a child process.

    Parameters
    ----------
    sock : socket
        The client, after the handshake.
    number : int
        Of the session.
    folder : Path
        Where its files go; made here.
    limit_s : float or None
        The longest it may take.
    started : callable
        Told the child's process id.

    Returns
    -------
    str
        How it ended: the name of a signal, ``status N``, `OUT_OF_TIME` or `CLIENT_LEFT`.
    """
    from tvm.rpc import _ffi_api

    sock.settimeout(None)
    notice_lost_clients(sock)
    alive, end_of_child = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(sock, end_of_child, number, folder)
    os.close(end_of_child)
    started(child)
    why = _wait(alive, sock, limit_s)
    os.close(alive)
    kill_group(child)
    _, status = os.waitpid(child, 0)
    if why == OUT_OF_TIME:
        text = f"RPCSessionTimeoutError: the session has used up its {limit_s:g} s"
        _ffi_api.ReturnException(sock.fileno(), text)
    if why:
        return why
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.WEXITSTATUS(status)}"


def kill_group(child: int) -> None:
    """Kill a session with all that it has started."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)


def has_left(sock: socket.socket) -> bool:
    """Whether a client has closed its connection."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _wait(alive: int, sock: socket.socket, limit_s: float | None) -> str:
    """Wait until a session is over, and say why if it did not end by itself."""
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    poll.register(sock, select.POLLRDHUP)
    found = dict(poll.poll(None if limit_s is None else limit_s * 1000))
    if not found:
        return OUT_OF_TIME
    if alive in found:
        return ""
    # A session that waits for its client ends by itself now; one that computes might never.
    poll.unregister(sock)
    return "" if poll.poll(GRACE_S * 1000) else CLIENT_LEFT


def _be_child(sock: socket.socket, end: int, number: int, folder: Path) -> None:
    """Serve in the child; never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlive the server
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # Connections of other clients must close when the server closes them.
        low, high = sorted((sock.fileno(), end))
        for first, last in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, last)
        _answer(sock, number, folder)
        status = 0
    except Exception:  # noqa: BLE001 - whatever it is, it ends this session alone
        traceback.print_exc()
    finally:
        os._exit(status)


def _answer(sock: socket.socket, number: int, folder: Path) -> None:
    """Answer one client until it leaves."""
    import tvm_ffi
    from tvm.rpc import server
    from tvm.support import utils

    work = utils.tempdir(custom_path=str(folder))
    os.chdir(folder)

    def sha256(name: str) -> str:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()

    tvm_ffi.register_global_func("probq.board.session", lambda: number, override=True)
    tvm_ffi.register_global_func("probq.board.sha256", sha256, override=True)
    Kernels(folder).register()
    server._serve_loop(sock, "", work)
