"""Kernels in a session: shared arguments, outputs and times, and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from boards import Board, wait
from tvm import te

from tvm_probq.board.kernels import ROUNDS_A_CALL, KernelSession
from tvm_probq.errors import BoardError

X = np.arange(8, dtype=np.float32)
ORDER = ("X", "W", "OUT")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The kernel ``OUT = X + W``."""
    x, w = (te.placeholder((8,), "float32", name=name) for name in ("x", "w"))
    func = te.create_prim_func([x, w, te.compute((8,), lambda i: x[i] + w[i])])
    path = tmp_path_factory.mktemp("kernel") / "kernel.so"
    target = tvm.target.Target({"kind": "llvm"})
    tvm.tirx.build(func.with_attr("global_symbol", "main"), target=target).export_library(str(path))
    return path.read_bytes()


def loaded(board: Board, library: bytes, **weights: float) -> KernelSession:
    session = KernelSession(board.address, lambda _facts: None, 20.0)
    session.share({"X": X, "OUT": np.zeros_like(X)})
    for name, weight in weights.items():
        session.load_kernel(name, library, {"W": np.full_like(X, weight)}, ORDER)
    return session


def test_kernels_share_what_they_share(board: Board, library: bytes) -> None:
    with loaded(board, library, one=1.0, two=2.0) as session:
        assert np.array_equal(session.output("two"), X + 2)
        assert np.array_equal(session.output("one"), X + 1)
        files = list((board.folder / "tmp").glob("*/*/*"))
        assert files == [], "nothing stays on the board"
    wait(board.is_clean)


@pytest.mark.parametrize("threads", [1, 2])
def test_times_come_in_the_order_of_names(board: Board, library: bytes, threads: int) -> None:
    with loaded(board, library, a=1.0, b=2.0, c=3.0) as session:
        session.use_threads(threads)
        times = session.times_ns(["c", "a"], 2 * ROUNDS_A_CALL + 1, threads)
        assert [len(found) for found in times] == [2 * ROUNDS_A_CALL + 1] * 2
        assert all(time > 0 for found in times for time in found)


def test_another_layer_takes_the_place(board: Board, library: bytes) -> None:
    with loaded(board, library, one=1.0) as session:
        session.share({"X": X * 2, "OUT": np.zeros_like(X)})
        with pytest.raises(BoardError, match="the board reports an error in the middle of a run"):
            session.output("one")
        assert session.answers()
        session.load_kernel("one", library, {"W": X}, ORDER)
        assert np.array_equal(session.output("one"), X * 3)


def test_a_damaged_library_is_explained(board: Board, library: bytes) -> None:
    with (
        loaded(board, library) as session,
        pytest.raises(BoardError, match="the board cannot load the library"),
    ):
        session.load_kernel("bad", b"no library", {"W": X}, ORDER)
    wait(board.is_clean)


def test_an_aborted_session_frees_the_board(board: Board, library: bytes) -> None:
    session = loaded(board, library, one=1.0)
    session.abort()
    with pytest.raises(BoardError):
        session.output("one")
    session.close()
    wait(board.is_clean)


def test_a_session_that_dies_is_told_all_again(
    board: Board, library: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with loaded(board, library, one=1.0, two=2.0) as session:
        assert np.array_equal(session.output("one"), X + 1)
        kill_session(board)
        assert np.array_equal(session.output("two"), X + 2)
        assert len(session.times_ns(["one", "two"], 1, 1)) == 2


def kill_session(board: Board) -> None:
    """What happens when a board has too little memory: the session's process is killed."""
    import psutil

    children: list[Any] = psutil.Process(board.process.pid).children()
    assert len(children) == 1
    children[0].kill()
