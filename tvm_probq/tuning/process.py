"""The parent's end of a worker: requests under a deadline, and a new process after a death."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tvm_probq.errors import TuningError

BLOCK = 1 << 16
STARTING_S = 120.0


class WorkerGone(Exception):  # noqa: N818 - what happened, caught by the measurer
    """The worker died or was killed at its deadline."""


class WorkerProcess:
    """A worker, started when it is first asked.

    Parameters
    ----------
    threads : int
        Threads that TVM's pool has in the worker.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    @property
    def running(self) -> bool:
        """Whether there is a process that remembers earlier requests."""
        return self._process is not None

    def ask(self, request: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises
        ------
        WorkerGone
            If it crashed, or if it had to be killed at the deadline; it is started anew next time.
        TuningError
            If it cannot be started at all.
        """
        if self._process is None:
            self._start()
            deadline_s += STARTING_S
        process = self._process
        if process is None or process.stdin is None:
            raise TuningError("the tuning worker has no pipe", fix="report it")
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._line(time.monotonic() + deadline_s)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.stop()
            raise
        if not line:
            status = process.poll()
            self.stop()
            late = f"no answer in {deadline_s:.0f} s"
            raise WorkerGone(late if status is None else f"the process died (status {status})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process, self._buffer = self._process, None, b""
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        settings = {"TVM_NUM_THREADS": str(self._threads), "TVM_BIND_THREADS": "0"}
        settings |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(self._threads)}
        try:
            # A session of its own: Ctrl-C reaches the parent alone, which then kills the worker.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tvm_probq.tuning.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **settings},
                start_new_session=True,
            )
        except OSError as error:
            raise TuningError(
                "the tuning worker cannot be started",
                why=error.strerror or str(error),
                fix="free memory or processes",
            ) from error

    def _line(self, deadline: float) -> bytes:
        """The next line of the process, empty if it ended or the deadline passed."""
        if self._process is None or self._process.stdout is None:
            return b""
        pipe = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return b""
                block = os.read(pipe, BLOCK)
                if not block:
                    self._process.wait()
                    return b""
                self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
