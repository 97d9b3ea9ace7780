"""A session in which kernels of one layer are run and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.board.facts import ask_facts
from tvm_probq.board.session import PROBE_S, BoardSession
from tvm_probq.board.wire import Arrays
from tvm_probq.errors import BoardError

ROUNDS_A_CALL = 4  # each call has a deadline, and a kernel may be slow


class KernelSession(BoardSession):
    """As `BoardSession`, with kernels in the place of models."""

    def share(self, arrays: Arrays) -> None:
        """Set the arguments that all kernels take, by name."""
        self._setting({"do": "share"}, arrays)

    def load_kernel(
        self, name: str, library: bytes, own: Arrays, order: Sequence[str]
    ) -> None:  # fmt: skip
        """Upload a kernel under a name.

        Parameters
        ----------
        name : str
            Without spaces.
        library : bytes
            A shared library with ``main``.
        own : dict of str to ndarray
            Arguments that it does not share.
        order : sequence of str
            The names of all its arguments, the output last.
        """
        digest = hashlib.sha256(library).hexdigest()
        message = {"do": "kernel", "name": name, "sha256": digest, "order": " ".join(order)}
        self._setting(message, {"library": np.frombuffer(library, np.uint8), **own})

    def output(self, name: str) -> NDArray[Any]:
        """Run a kernel once; what it writes."""
        _, arrays = self._call({"do": "output", "name": name}, {})
        return arrays["output"]

    def times_ns(self, names: Sequence[str], rounds: int, threads: int) -> list[list[int]]:
        """Time kernels in turn on the board; see `tvm_probq.board.server.rounds`.

        Returns
        -------
        list of list of int
            Nanoseconds of each kernel in each round.
        """
        times: list[list[int]] = [[] for _ in names]
        for done in range(0, rounds, ROUNDS_A_CALL):
            some = min(ROUNDS_A_CALL, rounds - done)
            message = {"do": "rounds", "names": " ".join(names), "rounds": some, "threads": threads}
            answer, _ = self._call(message, {})
            for found, more in zip(times, answer["times"], strict=True):
                found += map(int, more)
        return times

    def answers(self) -> bool:
        """Whether the board's server answers: then a call that failed is to blame itself."""
        try:
            ask_facts(*self._place, self._where, min(PROBE_S, self._timeout_s))
        except BoardError:
            return False
        return True

    def abort(self) -> None:
        """End the session at once, also while another thread waits for the board."""
        process = self._process
        if process is not None:
            process.abort()
