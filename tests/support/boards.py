"""Boards that run here, and artefacts whose code does what a test wants it to do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tvm
from tvm import relax, te, tirx
from tvm.support import cc

from tvm_probq.board.address import Address
from tvm_probq.board.facts import BoardFacts, ask_facts
from tvm_probq.board.runner import RemoteRunner
from tvm_probq.build.artefact import Artefact

SERVER = Path(__file__).parents[2] / "tvm_probq" / "board" / "server"
STARTING_S = 120.0
FREE_S = 10.0
SHAPE = (2, 3)
SOURCE = """
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
float misbehave(void) {{ {body} return 1.0f; }}
"""
# For bodies: true once, and never again.
ONCE = 'if (access("{mark}", F_OK)) {{ fclose(fopen("{mark}", "w")); {body} }}'


class Board:
    """A server that runs in a process of its own.

    Parameters
    ----------
    folder : Path
        For its temporary files, port and log.
    options : sequence of str
        Of the server.
    command : sequence of str
        That runs the server; by default this Python with the server's folder alone.
    """

    def __init__(
        self, folder: Path, *options: str, command: Sequence[str | Path] = (), cpu: str = "max"
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.port_file = folder / "port"
        self.port_file.unlink(missing_ok=True)
        self.log = (folder / "log").open("a+")
        (folder / "tmp").mkdir(exist_ok=True)
        options = (*options, "--port-file", str(self.port_file), "--exit-with-stdin")
        if "--port" not in options:
            options = (*options, "--port", "0")
        self.process = subprocess.Popen(
            [*(command or (sys.executable, SERVER)), *options],
            stdin=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "ARM_BOARD_CPU": cpu},
        )

    @property
    def address(self) -> Address:
        """Where it listens; waits until it does."""
        wait(lambda: self.port_file.exists() or self.process.poll() is not None, STARTING_S)
        assert self.process.poll() is None, self.said()
        return Address("127.0.0.1", int(self.port_file.read_text()))

    def facts(self) -> BoardFacts:
        """What the server says."""
        return ask_facts("127.0.0.1", self.address.port, "board", 5.0)

    def said(self) -> str:
        """The log."""
        return Path(self.log.name).read_text()

    def is_clean(self) -> bool:
        """Whether nobody has the board, no session runs, and no file of one is left."""
        files = list((self.folder / "tmp").glob("*/*"))
        children = psutil.Process(self.process.pid).children(recursive=True)
        return not (self.facts().client or files or children)

    def signal(self, number: int) -> None:
        """Send a signal to the server and its sessions: what happens to a whole machine."""
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(FREE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.log.close()


@contextlib.contextmanager
def running(folder: Path, *options: str, **settings: Any) -> Iterator[Board]:
    """A board for as long as a test needs it."""
    board = Board(folder, *options, **settings)
    try:
        yield board
    finally:
        board.stop()


def wait(condition: Callable[[], bool], limit_s: float = FREE_S) -> None:
    """Wait until something is so; fails if it does not come."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not so after {limit_s} s"
        time.sleep(0.05)


def assert_serves(board: Board, artefact: Artefact) -> None:
    """The board is free soon and clean, and the next client gets what it asks for."""
    wait(board.is_clean)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with RemoteRunner(artefact, board.address, timeout_s=20.0) as model:
        (y,) = model.run(x)
    assert np.array_equal(y, x + 1)
    wait(board.is_clean)


def library_of(body: str, folder: Path) -> bytes:
    """A library that gives its input plus one, and runs lines of C in the middle of it."""
    folder.mkdir(exist_ok=True)
    source, code, library = (folder / name for name in ("body.c", "body.o", "library.so"))
    source.write_text(SOURCE.format(body=body))
    subprocess.run([cc.get_cc(), "-x", "c", "-fPIC", "-c", source, "-o", code], check=True)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(builder.emit_te(plus_misbehave, x))
        builder.emit_func_output(out)
    built = tvm.compile(builder.finalize(), tvm.target.Target({"kind": "llvm"}))
    built.export_library(str(library), options=[str(code)])
    return library.read_bytes()


def plus_misbehave(x: Any) -> Any:
    """The tensor expression that calls the lines of C."""
    extra = tirx.call_extern("float32", "misbehave")
    return te.compute(SHAPE, lambda i, j: x[i, j] + extra)


def with_library(artefact: Artefact, library: bytes) -> Artefact:
    """An artefact with another library, which nothing has checked."""
    return replace(artefact, members={**artefact.members, "library.so": library})


def with_target(artefact: Artefact, **changes: Any) -> Artefact:
    """An artefact that says something else about where it runs."""
    target = replace(artefact.manifest.target, **changes)
    return replace(artefact, manifest=replace(artefact.manifest, target=target))
