"""The client's end of the worker: every request under a deadline, at which the worker is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from tvm_probq.board.wire import Arrays, receive, send
from tvm_probq.errors import EnvironmentProblem

# Importing TVM takes a second, and a minute where the machine is overloaded.
STARTING_S = 120.0


class Late(Exception):  # noqa: N818 - what happened, caught by the session
    """The worker was killed at a deadline, or died."""


class WorkerProcess:
    """A worker that is started at once.

    Raises
    ------
    EnvironmentProblem
        If it cannot be started.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as log:
            try:
                # A session of its own: Ctrl-C reaches the parent alone, which then ends it.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tvm_probq.board.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    # The part of TVM that runs modules is loaded in half the time.
                    env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"},
                    start_new_session=True,
                )
                self._exchange(None, {}, time.monotonic() + STARTING_S)
            except (OSError, Late) as error:
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()
                raise EnvironmentProblem(
                    "the process that speaks to boards cannot be started",
                    why=said[-1] if said else str(error),
                    fix="see `tvm-probq doctor`",
                ) from error

    def ask(
        self, message: Mapping[str, Any], arrays: Mapping[str, Any], deadline: float
    ) -> tuple[dict[str, Any], Arrays]:
        """Send a request and wait for the answer until a time of the monotonic clock.

        Raises
        ------
        Late
            If there is none by then; the process has ended, and so has its session.
        """
        return self._exchange(message, arrays, deadline)

    def abort(self) -> None:
        """Kill the process while another thread waits for its answer."""
        self._process.kill()

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was written is not wanted any more
                    continue

    def _exchange(
        self, message: Mapping[str, Any] | None, arrays: Mapping[str, Any], deadline: float
    ) -> tuple[dict[str, Any], Arrays]:
        requests, answers = self._pipes()
        # Killing the process ends every wait on its pipes.
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._process.kill)
        timer.start()
        try:
            if message is not None:
                send(requests, message, arrays)
            return receive(answers)
        except (BrokenPipeError, EOFError):
            self.stop()
            raise Late("no answer") from None
        except BaseException:
            self.stop()
            raise
        finally:
            timer.cancel()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None or requests.closed:
            raise Late("the process has ended")
        return requests, answers
