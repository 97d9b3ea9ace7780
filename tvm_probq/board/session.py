"""A session on a board: every call has a deadline, and is repeated only where that is safe."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tvm_probq.board import diagnosis
from tvm_probq.board.address import Address
from tvm_probq.board.diagnosis import SessionEnded
from tvm_probq.board.facts import BoardFacts, ask_facts
from tvm_probq.board.process import Late, WorkerProcess
from tvm_probq.board.sockets import left
from tvm_probq.board.tracker import borrow
from tvm_probq.board.wire import Arrays
from tvm_probq.board.words import DIED, EXPIRED, NO_KEY
from tvm_probq.closing import Closing
from tvm_probq.errors import BoardError

TIMEOUT_S = 60.0
# For the question what a board is: a tenth of a call's time, but not less.
PROBE_S, PROBE_SHARE = 3.0, 0.1
CLOSING_S = 5.0
# Of a call's time, kept for asking the board why the rest was not enough.
RESERVE_S, RESERVE_SHARE = 2.0, 0.25

Check = Callable[[BoardFacts], None]


class BoardSession(Closing):
    """A board that is ours until `close`.

    Parameters
    ----------
    address : Address
        Of the board or of a tracker.
    check : callable
        Takes the board's facts and raises an error where the board is unfit; called before
        anything is uploaded.
    timeout_s : float, optional
        For each call, the connection among them.

    Attributes
    ----------
    facts : BoardFacts
        What the board is.

    Raises
    ------
    BoardError
        If there is no board, it does not answer or is busy for too long, or `check` refuses it.
    EnvironmentProblem
        If the process that speaks to the board cannot be started.
    """

    facts: BoardFacts

    def __init__(self, address: Address, check: Check, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._check, self._timeout_s = address, check, timeout_s
        self._where = str(address)
        self._place = (address.host, address.port)
        self._number = self._successes = 0
        # What a new session must be told before a call is repeated.
        self._history: list[tuple[dict[str, Any], Mapping[str, Any]]] = []
        self._process: WorkerProcess | None = None
        self._open()

    def load(self, name: str, library: bytes) -> None:
        """Upload a shared library and load it under a name."""
        message = {"do": "load", "name": name, "sha256": hashlib.sha256(library).hexdigest()}
        self._setting(message, {"library": np.frombuffer(library, np.uint8)})

    def run(self, name: str, arrays: Arrays) -> list[Any]:
        """Run one batch through a loaded model; arrays in the order of its inputs."""
        _, outputs = self._call({"do": "run", "name": name}, arrays)
        return list(outputs.values())

    def prepare(self, name: str, arrays: Arrays) -> None:
        """Set what `time_s` runs a model on."""
        self._setting({"do": "prepare", "name": name}, arrays)

    def time_s(self, name: str, *, number: int = 1, repeat: int = 1) -> list[float]:
        """Time prepared inputs on the board's clock: `repeat` means of `number` runs each."""
        message = {"do": "time", "name": name, "number": number, "repeat": repeat}
        answer, _ = self._call(message, {})
        return [float(value) for value in answer["seconds"]]

    def use_threads(self, count: int) -> None:
        """Set the threads that models run on."""
        self._setting({"do": "threads", "count": count}, {})

    def close(self) -> None:
        """End the session: the board is free, and nothing stays on it."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.ask({"do": "close"}, {}, time.monotonic() + min(CLOSING_S, self._timeout_s))
        except Late:
            return
        process.stop()

    def _open(self) -> None:
        deadline = self._deadline()
        key = self._find(deadline)
        begin = time.monotonic()
        self._process = WorkerProcess()
        # The time that this machine takes to start a process is no fault of the board.
        deadline += time.monotonic() - begin
        try:
            try:
                self._connect(key, deadline)
            except SessionEnded:
                # Nothing has been asked for yet; a tracker's key may have grown old.
                self._connect(self._find(deadline), deadline)
        except SessionEnded as ended:
            raise ended.error(self._where, "") from None
        finally:
            if not self._number:
                self.close()

    def _setting(self, message: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        """Make a call that new sessions need, too."""
        self._call(message, arrays)
        self._history.append((message, arrays))

    def _call(
        self, message: dict[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Arrays]:
        """Make a call, and make it once more where a session has ended without fault of its own."""
        deadline = self._deadline()
        try:
            answer = self._ask(message, arrays, deadline)
        except SessionEnded as ended:
            end = self._end()
            if not ended.may_repeat(end, self._successes):
                raise ended.error(self._where, end) from None
            try:
                self._reopen(deadline)
                answer = self._ask(message, arrays, deadline)
            except SessionEnded as again:
                raise again.error(self._where, self._end()) from None
            except BoardError as error:
                raise diagnosis.lost(error) from error
        self._successes += 1
        return answer

    def _reopen(self, deadline: float) -> None:
        self._connect(self._find(deadline), deadline)
        for message, arrays in self._history:
            self._ask(message, arrays, deadline)

    def _find(self, deadline: float) -> str:
        """Find the board, ask what it is, and check it; gives the key for the session."""
        key = self._address.key
        last: BoardError | None = None
        while True:
            if self._address.tracker:
                try:
                    host, port, key = borrow(self._address, deadline)
                except BoardError as error:
                    raise last or error from error
                self._place, self._where = (host, port), f"board {host}:{port}"
            try:
                asking_s = min(max(PROBE_S, PROBE_SHARE * self._timeout_s), left(deadline))
                self.facts = ask_facts(*self._place, self._where, asking_s)
                break
            except BoardError as error:
                # A tracker also lends boards that have frozen: the next one may answer.
                if not self._address.tracker or time.monotonic() >= deadline:
                    raise
                last = error
        if not self._address.tracker:
            diagnosis.check_key(self.facts, key, self._where)
        self._check(self.facts)
        return key

    def _connect(self, key: str, deadline: float) -> None:
        _, port = self._place
        message = {"do": "connect", "host": self.facts.host, "port": port, "key": key}
        answer, _ = self._ask(message, {}, deadline)
        self._number, self._successes = int(answer["number"]), 0

    def _ask(
        self, message: dict[str, Any], arrays: Mapping[str, Any], deadline: float
    ) -> tuple[dict[str, Any], Arrays]:
        """Ask the worker.

        Raises
        ------
        SessionEnded
            If the session is over.
        BoardError
            If the board says what went wrong, or says nothing.
        """
        if self._process is None:
            raise ValueError("this session was closed")
        reserve = min(RESERVE_S, RESERVE_SHARE * self._timeout_s)
        try:
            answer, outputs = self._process.ask(message, arrays, deadline - reserve)
        except Late:
            self._process = None
            late = time.monotonic() >= deadline - reserve
            raise diagnosis.no_answer(
                self._place, self._where, message["do"], late, self._timeout_s, reserve
            ) from None
        kind = answer.get("failure")
        if kind in (DIED, EXPIRED, NO_KEY):
            raise SessionEnded(kind, answer["why"], message["do"])
        if kind is not None:
            raise diagnosis.refused(self._where, message["do"], answer["why"])
        return answer, outputs

    def _end(self) -> str:
        return diagnosis.end_of_session(self._place, self._number, self._where)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s
