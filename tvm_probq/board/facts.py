"""What a board is, asked without a session: also of a board that is busy."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_probq.board.features import features_of
from tvm_probq.board.server.wire import PROBE_MAGIC
from tvm_probq.board.sockets import left, receive_json, send_int
from tvm_probq.errors import BoardError

TRIES, PAUSE_S = 3, 0.3
SERVE = "start `tvm-probq board serve` on the board"


@dataclass(frozen=True)
class BoardFacts:
    """A board as its server describes it.

    Attributes
    ----------
    name : str
        Of the machine.
    architecture : str
        Such as ``aarch64``.
    features : frozenset of str
        Of its CPU, in LLVM's names.
    cpus : int
        That the server may use.
    versions : dict of str to str
        Of ``apache-tvm``, ``apache-tvm-ffi``, ``numpy`` and ``python``.
    key, tracker : str
        Its label, and the tracker that lends it; empty without.
    client : str
        Who has the board now; empty if it is free.
    busy_s, max_session_s : float
        For how long, and how long at most (0: no limit).
    ends : dict of int to str
        How the last sessions ended, by number.
    host : str
        The numeric address that answered: a name may have several, of which TVM tries one.
    """

    name: str
    architecture: str
    features: frozenset[str]
    cpus: int
    versions: dict[str, str]
    key: str
    tracker: str
    client: str
    busy_s: float
    max_session_s: float
    ends: dict[int, str]
    host: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], host: str = "") -> BoardFacts:
        """Read a server's answer; a KeyError, TypeError or ValueError if it is none."""
        return cls(
            str(data["name"]), str(data["machine"]), features_of(data), int(data["cpus"]),
            {str(k): str(v) for k, v in data["versions"].items()}, str(data["key"]),
            str(data["tracker"]), str(data["client"]), float(data["busy_s"]),
            float(data["max_session_s"]), {int(n): str(end) for n, end in data["ends"].items()},
            host,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Give what describes the board, for results."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "features": sorted(self.features),
            "cpus": self.cpus,
            "versions": self.versions,
        }


def ask_facts(host: str, port: int, where: str, timeout_s: float) -> BoardFacts:
    """Ask a server what its board is.

    Parameters
    ----------
    host, port
        Of the server.
    where : str
        What messages call it.
    timeout_s : float
        For the whole.

    Raises
    ------
    BoardError
        If nobody listens, nobody answers, or another server does.
    """
    deadline = time.monotonic() + timeout_s
    with _connected(host, port, where, deadline) as sock:
        try:
            send_int(sock, PROBE_MAGIC)
            answer = receive_json(sock, deadline)
            return BoardFacts.from_json(answer, str(sock.getpeername()[0]))
        except TimeoutError as error:
            raise BoardError(
                "the board does not answer",
                where=where,
                why=f"it took the connection, but said nothing in {timeout_s:.1f} s: it is frozen, "
                "cut off or overloaded",
                fix="wait, or restart the board or its server",
            ) from error
        # Another program may close the connection or answer anything.
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BoardError(
                "no server of tvm_probq answers there",
                where=where,
                why=f"{error or 'the connection was closed'}: TVM's own server, another program, "
                "or the end of an ssh tunnel behind which nobody listens",
                fix=f"{SERVE}, which tells what its CPU can do",
            ) from error


def _connected(host: str, port: int, where: str, deadline: float) -> socket.socket:
    """Connect; tries again, because a server may just be starting."""
    last: OSError = TimeoutError("timed out")
    for turn in range(TRIES):
        try:
            return socket.create_connection((host, port), left(deadline))
        except OSError as error:
            last = error
        if turn + 1 < TRIES and time.monotonic() + PAUSE_S < deadline:
            time.sleep(PAUSE_S)
    refused = isinstance(last, ConnectionRefusedError)
    raise BoardError(
        "nobody listens there" if refused else "the board cannot be reached",
        where=where,
        why=last.strerror or str(last),
        fix=f"{SERVE}, and check the address and the ssh tunnel",
    ) from last
