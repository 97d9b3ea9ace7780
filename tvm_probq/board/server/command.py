"""The server's options, and what it refuses."""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import signal
import socket
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

from .keys import FixedKey, Keys, TrackerKeys
from .server import Server

DEFAULT_PORT = 9090
MAX_SESSION_S = 600.0
STOPPING = (signal.SIGINT, signal.SIGTERM)
WARNING = (
    "anyone who reaches this port can run any program as this user: RPC has no password and no "
    "encryption"
)


class Refused(Exception):  # noqa: N818 - what the server says, caught by its callers
    """The options ask for what the server does not do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--expose", action="store_true", help=f"allow other hosts than loopback: {WARNING}")
    add("--port", type=int, default=DEFAULT_PORT, help="default %(default)s; 0 for a free one")
    add("--port-file", type=Path, metavar="FILE", help="where the port is written once it is open")
    add("--tracker", type=address, metavar="HOST:PORT", help="RPC tracker that lends this board")
    add("--key", default="", help="a label that clients must name; no secret")
    add("--custom-addr", metavar="HOST", help="this board's address that the tracker tells")
    add(
        "--max-session", type=float, default=MAX_SESSION_S, metavar="S",
        help="end sessions after S seconds, 0 for never (default %(default)g)",
    )  # fmt: skip
    add("--exit-with-stdin", action="store_true", help="stop when standard input is closed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse a command line and serve."""
    parser = argparse.ArgumentParser(prog="server", description="A TVM RPC server for a board.")
    add_arguments(parser)
    try:
        serve(parser.parse_args(arguments))
    except Refused as error:
        parser.error(str(error))
    return 0


def serve(args: argparse.Namespace) -> int:
    """Serve until the process is interrupted or terminated; give the number of sessions.

    Raises
    ------
    Refused
        If the options ask for what is not done, or the port is taken.
    """
    check(args)
    # Newer Pythons warn of a fork beside threads; those here hold no lock that a session needs.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    # The part of TVM that runs modules is enough, and is loaded in half the time.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    load_extra()
    from tvm.rpc.server import logger

    listener = _listen(args.host, args.port)
    port = listener.getsockname()[1]
    # Blocked before there are threads: any of them could take a signal, and main would sleep on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    keys: Keys = FixedKey(args.key)
    tracker = ""
    if args.tracker:
        tracker = f"{args.tracker[0]}:{args.tracker[1]}"
        keys = TrackerKeys(args.tracker, args.key, port, args.custom_addr, logger)
    server = Server(listener, keys, args.key, tracker, args.max_session, logger)
    try:
        logger.info("listening on %s:%d; %s", args.host, port, WARNING)
        if args.exit_with_stdin:
            threading.Thread(target=_watch_stdin, daemon=True).start()
        if args.port_file:
            _write(args.port_file, str(port))
        signal.sigwait(STOPPING)
    finally:
        server.stop()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return server.sessions


def check(args: argparse.Namespace) -> None:
    """Raise `Refused` for options that contradict each other or let strangers in."""
    if args.tracker and not args.key:
        raise Refused("--tracker needs --key, by which clients ask for this board")
    if len(args.key.split()) > 1:
        raise Refused("a key has no spaces")
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(args.host, None)}
    except OSError as error:
        raise Refused(f"{args.host} is no address of this machine: {error}") from error
    if not args.expose and not all(ipaddress.ip_address(ip).is_loopback for ip in found):
        raise Refused(
            f"{args.host} can be reached from other machines, and {WARNING}; keep 127.0.0.1 and "
            f"use an ssh tunnel (ssh -N -L {DEFAULT_PORT}:127.0.0.1:{args.port} USER@BOARD), "
            "or say --expose"
        )


def address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write HOST:PORT")
    return host.strip("[]"), int(port)


def load_extra() -> None:
    """Load what TVM's runtime leaves out: random numbers, with which tuners fill inputs."""
    import tvm

    path = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_extra.so"
    if path.exists():
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Refused(f"cannot listen on {host}:{port}: {why}") from error


def _write(path: Path, text: str) -> None:
    """Write a file that whoever waits for it sees whole."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _watch_stdin() -> None:
    """Stop the server with its standard input; a lock of sys.stdin would go to the sessions."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
