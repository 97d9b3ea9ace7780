"""Boards that an RPC tracker lends."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import SHAPE, Board, running, wait
from trackers import free_boards, tracking

from tvm_probq.board.address import Address
from tvm_probq.board.runner import RemoteRunner
from tvm_probq.board.tracker import borrow
from tvm_probq.build.artefact import Artefact
from tvm_probq.errors import BoardError

X = np.arange(6, dtype=np.float32).reshape(SHAPE)


@pytest.fixture(scope="module")
def tracker() -> Iterator[Address]:
    """The tracker of all tests here."""
    with tracking() as address:
        yield address


@pytest.fixture(scope="module")
def lent(tracker: Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board that is registered at the tracker."""
    place = f"{tracker.host}:{tracker.port}"
    folder = tmp_path_factory.mktemp("lent")
    with running(folder, "--tracker", place, "--key", "kind", "--max-session", "30") as board:
        wait(lambda: "registered at the tracker" in board.said(), 60.0)
        yield board


def test_a_board_is_lent_again_and_again(lent: Board, tracker: Address, sound: Artefact) -> None:
    for turn in range(3):
        with RemoteRunner(sound, tracker, 20.0) as model:
            assert np.array_equal(model.run(X + turn)[0], X + turn + 1)
    assert len(lent.facts().ends) == 3


def test_no_board_of_this_kind(lent: Board, tracker: Address, sound: Artefact) -> None:
    message = "no board became free in 1 s: the tracker has no board with this key; it has kind"
    with pytest.raises(BoardError, match=message):
        RemoteRunner(sound, replace(tracker, key="other"), 1.0)


def test_a_lent_board_takes_nobody_else(lent: Board, tracker: Address, sound: Artefact) -> None:
    message = f"lent by a tracker.*--tracker 127.0.0.1:{tracker.port} --key kind"
    with pytest.raises(BoardError, match=message):
        RemoteRunner(sound, lent.address, 5.0)


def test_a_frozen_board_is_passed_over(
    lent: Board, tracker: Address, sound: Artefact, tmp_path: Path
) -> None:
    place = f"{tracker.host}:{tracker.port}"
    with running(tmp_path / "frozen", "--tracker", place, "--key", "kind") as frozen:
        wait(lambda: free_boards(tracker) == 2, 60.0)
        frozen.signal(signal.SIGSTOP)
        # The first gets the other board, which then stands behind the frozen one.
        for _ in range(2):
            with RemoteRunner(sound, tracker, 30.0) as model:
                assert np.array_equal(model.run(X)[0], X + 1)
        wait(lambda: free_boards(tracker) == 1)


def test_no_tracker(sound: Artefact) -> None:
    with pytest.raises(BoardError, match="no tracker listens there.*tvm.exec.rpc_tracker"):
        RemoteRunner(sound, Address("127.0.0.1", 1, "kind", tracker=True), 5.0)


def test_a_board_comes_back_to_a_tracker_that_was_restarted(
    sound: Artefact, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        with tracking() as address:
            options = ["--tracker", f"{address.host}:{address.port}", "--key", "kind"]
            board = stack.enter_context(running(tmp_path / "board", *options))
            wait(lambda: "registered at the tracker" in board.said(), 60.0)
        stack.enter_context(tracking(address.port))
        with RemoteRunner(sound, address, 30.0) as model:
            assert np.array_equal(model.run(X)[0], X + 1)


def test_a_key_that_nobody_uses_is_replaced(lent: Board, tracker: Address, sound: Artefact) -> None:
    first = borrow(tracker, time.monotonic() + 20)
    message = r"all boards with this key \(1\) are busy, or do not answer"
    with pytest.raises(BoardError, match=message):
        RemoteRunner(sound, tracker, 1.0)
    second = borrow(tracker, time.monotonic() + 30)
    assert first[:2] == second[:2] == ("127.0.0.1", lent.address.port)
    assert first[2] != second[2]
