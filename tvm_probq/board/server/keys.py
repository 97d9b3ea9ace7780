"""The keys by which clients get the board: a label of its own, or one from a tracker at a time."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from typing import Protocol

from .wire import ask, receive_int

TIMEOUT_S = 10.0
PING_S = 2.0  # between questions to the tracker
UNUSED_PINGS = 3  # after which a key that the tracker has given away is replaced


class Keys(Protocol):
    """Who may have the board."""

    def take(self, key: str) -> bool:
        """Whether a client with this key is served."""

    def give_back(self) -> None:
        """Say that the board is free again."""


class FixedKey:
    """A label that all clients share."""

    def __init__(self, key: str) -> None:
        self._key = key

    def take(self, key: str) -> bool:
        """Whether a client with this key is served."""
        return key == self._key

    def give_back(self) -> None:
        """Nothing: the label stays."""


class TrackerKeys:
    """Random keys that an RPC tracker gives to one client each.

    Parameters
    ----------
    tracker : (str, int)
        Its address.
    key : str
        Label of boards of this kind.
    port : int
        Where the server listens.
    custom_address : str or None
        Address of the board that the tracker tells, in place of the one that it sees.
    log : Logger
        For what happens.
    """

    def __init__(
        self,
        tracker: tuple[str, int],
        key: str,
        port: int,
        custom_address: str | None,
        log: logging.Logger,
    ) -> None:
        self._tracker, self._key, self._port = tracker, key, port
        self._custom_address, self._log = custom_address, log
        self._state = threading.Condition()
        self._match: str | None = None
        self._lent = False
        threading.Thread(target=self._stay_registered, daemon=True).start()

    def take(self, key: str) -> bool:
        """Whether a client with this key is served: each key once."""
        with self._state:
            if self._match is None or key != self._match:
                return False
            self._match, self._lent = None, True
            return True

    def give_back(self) -> None:
        """Offer the board again."""
        with self._state:
            self._lent = False
            self._state.notify_all()

    def _stay_registered(self) -> None:
        while True:
            try:
                with socket.create_connection(self._tracker, TIMEOUT_S) as tracker:
                    self._register(tracker)
                    self._offer(tracker)
            # A tracker that is away, or answers nonsense, may come back.
            except (OSError, ValueError, TypeError, struct.error) as error:
                self._log.warning("tracker %s:%d: %s; trying again", *self._tracker, error)
            time.sleep(PING_S)

    def _register(self, tracker: socket.socket) -> None:
        from tvm.rpc import base

        tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        if receive_int(tracker) != base.RPC_TRACKER_MAGIC:
            raise ValueError("it is no TVM tracker")
        said = {"key": f"server:{self._key}", "addr": (self._custom_address, self._port)}
        ask(tracker, [base.TrackerCode.UPDATE_INFO, said])
        self._log.info("registered at the tracker %s:%d", *self._tracker)
        with self._state:
            self._match = None  # this tracker does not know the key of the last one

    def _offer(self, tracker: socket.socket) -> None:
        """Offer the board whenever it is free, until the tracker goes away."""
        from tvm.rpc import base

        unused = 0
        while True:
            pending = ask(tracker, [base.TrackerCode.GET_PENDING_MATCHKEYS])
            with self._state:
                unused = 0 if self._match in pending else unused + 1
                fresh = not self._lent and (self._match is None or unused > UNUSED_PINGS)
                if fresh:
                    self._match, unused = base.random_key(self._key), 0
                match = self._match
            if fresh:
                place = (self._port, match)
                ask(tracker, [base.TrackerCode.PUT, self._key, place, self._custom_address])
            with self._state:
                self._state.wait(PING_S)
