"""The server: greets clients at once, and gives the board to one after the other."""

from __future__ import annotations

import logging
import shutil
import socket
import struct
import threading
import time
from typing import Any

from . import wire
from .facts import machine_facts
from .folder import WorkFolder
from .keys import Keys
from .session import GRACE_S, has_left, kill_group, run_session

HANDSHAKE_S = 10.0
KEPT_ENDS = 32
TIMEOUT_OPTION = "-timeout="


class Server:
    """Accepts clients, and runs their sessions one after the other.

    Parameters
    ----------
    listener : socket
        Where clients connect.
    keys : Keys
        Who is served.
    key : str
        The label of the board.
    tracker : str
        Address of the tracker that lends the board; empty without one.
    max_session_s : float
        Longest session; 0 for no limit.
    log : Logger
        For what happens.
    """

    def __init__(
        self,
        listener: socket.socket,
        keys: Keys,
        key: str,
        tracker: str,
        max_session_s: float,
        log: logging.Logger,
    ) -> None:
        self._listener, self._keys, self._log = listener, keys, log
        self._key, self._tracker, self._max_session_s = key, tracker, max_session_s
        self._machine = machine_facts()
        self._work = WorkFolder()
        self._turn = threading.Lock()  # whoever holds it has the board
        self._state = threading.Lock()  # guards all below
        self._client, self._since, self._child = "", 0.0, 0
        self._ends: dict[int, str] = {}
        self.sessions = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """End the session that runs, and remove all files."""
        with self._state:
            child = self._child
        if child:
            kill_group(child)
        # Held from now on: no other session begins.
        self._turn.acquire(timeout=GRACE_S)
        self._work.remove()

    def facts(self) -> dict[str, Any]:
        """Everything that a client may want to know."""
        with self._state:
            return {
                "server": 1,
                "key": self._key,
                "tracker": self._tracker,
                "max_session_s": self._max_session_s,
                "client": self._client,
                "busy_s": time.monotonic() - self._since if self._client else 0.0,
                "ends": {str(number): end for number, end in self._ends.items()},
                **self._machine,
            }

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except OSError as error:  # too many open files, say
                self._log.warning("no connection: %s", error)
                time.sleep(1)
                continue
            # A thread each, so that one who says nothing holds up nobody.
            threading.Thread(target=self._greet, args=(sock, address[0]), daemon=True).start()

    def _greet(self, sock: socket.socket, client: str) -> None:
        with sock:
            try:
                sock.settimeout(HANDSHAKE_S)
                options = self._shake_hands(sock, client)
                if options is not None:
                    self._take_turn(sock, client, options)
            # Clients may send anything, and leave at any time.
            except (OSError, ValueError, struct.error) as error:
                self._log.warning("%s: %s", client, error)

    def _shake_hands(self, sock: socket.socket, client: str) -> list[str] | None:
        """Give the options of a client that is to be served; answer a question."""
        from tvm.rpc import base

        magic = wire.receive_int(sock)
        if magic == wire.PROBE_MAGIC:
            wire.tell(sock, self.facts())
        elif magic == base.RPC_MAGIC:
            key, options = wire.receive_key(sock)
            if self._keys.take(key.removeprefix("client:")):
                return options
            self._log.warning("%s: wrong key", client)
            wire.refuse(sock)
        return None

    def _take_turn(self, sock: socket.socket, client: str, options: list[str]) -> None:
        """Wait for the board and run a session; a client waits for our answer all the while."""
        try:
            with self._turn:
                if not has_left(sock):
                    wire.welcome(sock, self._key)
                    self._serve(sock, client, options)
        finally:
            self._keys.give_back()

    def _serve(self, sock: socket.socket, client: str, options: list[str]) -> None:
        wanted = [o.removeprefix(TIMEOUT_OPTION) for o in options if o.startswith(TIMEOUT_OPTION)]
        limits = [*map(float, wanted), self._max_session_s]
        limit_s = min((limit for limit in limits if limit > 0), default=None)
        with self._state:
            self.sessions += 1
            number = self.sessions
            self._client, self._since = client, time.monotonic()
        folder = self._work.path / f"session-{number}"
        end = "not started"
        try:
            end = run_session(sock, number, folder, limit_s, self._started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._state:
                self._client, self._child = "", 0
                self._ends[number] = end
                self._ends.pop(number - KEPT_ENDS, None)
            self._log.info("session %d of %s: %s", number, client, end)

    def _started(self, child: int) -> None:
        with self._state:
            self._child = child
        self._log.info("session %d: process %d", self.sessions, child)
