"""Sessions on a board, and what ends with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from boards import SHAPE, Board, wait

from tvm_probq.board.facts import BoardFacts
from tvm_probq.board.process import WorkerProcess
from tvm_probq.board.runner import RemoteRunner
from tvm_probq.board.session import BoardSession
from tvm_probq.build.artefact import Artefact, load_artefact
from tvm_probq.errors import BoardError, DataError, EnvironmentProblem
from tvm_probq.runtime.runner import Runner

TIMEOUT_S = 20.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_as_here(board: Board, artefact_path: Path, count: int) -> None:
    artefact = load_artefact(artefact_path)
    x = np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)
    with Runner(artefact) as here, RemoteRunner(artefact, board.address, TIMEOUT_S) as there:
        assert (here.inputs, here.outputs) == (there.inputs, there.outputs)
        assert (here.batch, here.counts, here.path) == (there.batch, there.counts, there.path)
        assert np.array_equal(here.run(x)[0], there.run({"x": x})[0])
    wait(board.is_clean)


def test_a_wrong_shape_is_this_machines_business(board: Board, artefact_path: Path) -> None:
    artefact = load_artefact(artefact_path)
    with (
        RemoteRunner(artefact, board.address, TIMEOUT_S) as model,
        pytest.raises(DataError, match=r"the input 'x' has shape \[2, 4\]"),
    ):
        model.run(np.zeros((2, 4), np.float32))


def test_an_error_of_the_board_is_told_and_the_session_lives(board: Board, sound: Artefact) -> None:
    x = np.zeros(SHAPE, np.float32)
    with RemoteRunner(sound, board.address, TIMEOUT_S) as model:
        with pytest.raises(BoardError, match="reports an error in the middle of a run"):
            model.call({"x": x.astype(np.int8)})
        assert np.array_equal(model.call({"x": x})[0], x + 1)


def test_latency_is_positive_and_as_often_as_asked(board: Board, sound: Artefact) -> None:
    with RemoteRunner(sound, board.address, TIMEOUT_S) as model:
        model.session.use_threads(1)
        times = model.latency_s({"x": np.zeros(SHAPE, np.float32)}, 7)
    assert len(times) == 7
    assert all(0 < seconds < 1 for seconds in times)


def test_two_models_in_one_session(board: Board, sound: Artefact) -> None:
    x = np.zeros(SHAPE, np.float32)
    with BoardSession(board.address, lambda _facts: None, TIMEOUT_S) as session:
        for name in ("one", "two"):
            session.load(name, sound.library)
        assert all(np.array_equal(session.run(n, {"x": x})[0], x + 1) for n in ("one", "two"))


def test_the_check_comes_before_the_session(board: Board) -> None:
    before = board.facts().ends

    def refuse(facts: BoardFacts) -> None:
        raise BoardError(f"{facts.architecture} is not wanted")

    with pytest.raises(BoardError, match="x86_64 is not wanted"):
        BoardSession(board.address, refuse, TIMEOUT_S)
    assert board.facts().ends == before


def test_a_closed_session_says_so_and_its_process_is_gone(board: Board, sound: Artefact) -> None:
    before = set(psutil.Process().children())
    model = RemoteRunner(sound, board.address, TIMEOUT_S)
    assert set(psutil.Process().children()) > before
    model.close()
    model.close()
    assert set(psutil.Process().children()) == before
    with pytest.raises(ValueError, match="closed"):
        model.run(np.zeros(SHAPE, np.float32))


def test_a_process_that_cannot_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(EnvironmentProblem, match="speaks to boards cannot be started"):
        WorkerProcess()
