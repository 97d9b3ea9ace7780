"""Batches shared out to boards, some of which vanish; no real board here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from made_up_boards import DEFAULT_NS, TILE_NS, MadeUpBoards

from tvm_probq.board.address import Address
from tvm_probq.errors import BoardError, KernelError
from tvm_probq.kernels.tile import Tile
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.database import Database
from tvm_probq.tuning.fleet import FleetMeasurer, shared_out
from tvm_probq.tuning.search import Tuner
from tvm_probq.tuning.space import tiles_of
from tvm_probq.tuning.tasks import tasks_of

PROFILE = load_profile("arm-a76")
TRACKER = Address("127.0.0.1", 9190, "pi5", tracker=True)
DEFAULT = Tile(1, 1, 1, 1, 1)
TILES = [Tile(columns, 1, 1, 1, 1) for columns in range(2, 14)]
ROUNDS = 5


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> MadeUpBoards:
    """Three of them."""
    return MadeUpBoards(3, monkeypatch)


@pytest.fixture
def said() -> list[str]:
    """What the fleet says."""
    return []


@pytest.fixture
def measure(boards: MadeUpBoards, make_layer: Any, said: list[str]) -> Callable[..., Any]:
    """The function that measures tiles of some layer."""
    fleet = FleetMeasurer(PROFILE, TRACKER, say=said.append)
    return lambda *tiles: fleet.measure(make_layer(7, 7, 16, 32), DEFAULT, tiles, ROUNDS)


@pytest.mark.parametrize(
    ("tiles", "boards", "sizes"),
    [(12, 3, [4, 4, 4]), (12, 1, [12]), (12, 9, [3] * 4), (2, 3, [2]), (0, 3, [0]), (7, 2, [4, 3]),
     (5, 0, [5])],
)  # fmt: skip
def test_tiles_are_dealt_out(tiles: int, boards: int, sizes: list[int]) -> None:
    parts = shared_out(TILES[:tiles], boards)
    assert [len(part) for part in parts] == sizes
    assert sorted(t.columns for part in parts for t in part) == [t.columns for t in TILES[:tiles]]


def test_boards_work_at_the_same_time(boards: MadeUpBoards, measure: Any) -> None:
    together = threading.Barrier(3, timeout=30)

    def meet(_board: int, what: str, _tile: str) -> None:
        if what == "share":
            together.wait()

    boards.event = meet
    found = measure(*TILES)
    assert set(found) == {DEFAULT, *TILES}
    assert found[DEFAULT].time_us == DEFAULT_NS / 1000
    assert {found[tile].ratio for tile in TILES} == {TILE_NS / DEFAULT_NS}
    assert {board for board, *_ in boards.log} == {0, 1, 2}


@pytest.mark.parametrize("moment", ["share", "load", "output", "time"])
def test_a_board_that_vanishes_takes_nothing_along(
    boards: MadeUpBoards, measure: Any, said: list[str], moment: str
) -> None:
    def kill(board: int, what: str, _tile: str) -> None:
        if board == 1 and what == moment:
            boards.kill(board)

    boards.event = kill
    found = measure(*TILES)
    assert set(found) == {DEFAULT, *TILES}
    assert all(found[tile].ratio == TILE_NS / DEFAULT_NS for tile in TILES)
    assert len(said) == 1
    assert "a board is lost: board 1" in said[0]
    assert set(measure(*TILES)) == {DEFAULT, *TILES}, "those that are left go on"
    assert len(said) == 1


@pytest.fixture
def all_vanish(boards: MadeUpBoards) -> None:
    """One board does a job and vanishes in the next; the others vanish behind it, in theirs."""
    done = threading.Event()
    shares: list[int] = []

    def event(board: int, what: str, tile: str) -> None:
        if what == "time" and board != 0:
            assert done.wait(30)
            boards.kill(board)
        elif what == "time" and len([b for b, w, _ in boards.log if (b, w) == (0, "time")]) == 5:
            done.set()
        elif what == "share" and board == 0:
            shares.append(board)
            if len(shares) == 2:
                boards.kill(board)

    boards.event = event


def test_what_was_measured_before_the_last_board_vanished_is_kept(
    all_vanish: None, measure: Any, said: list[str]
) -> None:
    found = measure(*TILES)
    assert len(found) == 1 + 4, "the others are not there, which is no failure"
    assert found[DEFAULT].ratio == 1
    assert all(m.ratio == TILE_NS / DEFAULT_NS or m.ratio == 1 for m in found.values())
    assert len(said) == 3
    with pytest.raises(BoardError, match="no board became free"):
        measure(*TILES)


def test_the_database_has_it_and_the_next_run_goes_on(
    all_vanish: None, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = tasks_of([make_layer(7, 7, 16, 32)])
    database = Database("arm-a76")

    def tune() -> None:
        left = iter([False] * 3 + [True] * 9)
        with FleetMeasurer(PROFILE, TRACKER) as fleet:
            list(Tuner([task], PROFILE.target(), database, fleet).run(lambda: next(left)))

    with pytest.raises(BoardError):
        tune()
    kept = dict(database.entries[task.key].trials)
    assert len(kept) == 4
    assert None not in kept.values()
    assert database.entries[task.key].tile is None, "nothing was looked at twice"
    MadeUpBoards(2, monkeypatch)
    tune()
    entry = database.entries[task.key]
    assert kept.items() <= entry.trials.items()
    assert len(entry.trials) == 4 + 3 * 12
    assert entry.tile in entry.trials


def test_no_board_at_all(measure: Any, boards: MadeUpBoards) -> None:
    boards.free.clear()
    with pytest.raises(BoardError, match="no board became free"):
        measure(*TILES)


def test_a_crash_costs_one_candidate(measure: Any, boards: MadeUpBoards) -> None:
    boards.crashing = {TILES[1], TILES[4]}  # in one job, and so twice in a row
    found = measure(*TILES)
    assert {tile for tile in TILES if found[tile].ratio is None} == boards.crashing
    assert "session died" in found[TILES[1]].failure
    assert len(found) == 13


def test_a_candidate_that_fails_is_no_fault_of_the_board(
    measure: Any, boards: MadeUpBoards, said: list[str]
) -> None:
    boards.wrong, boards.unbuildable = {TILES[0]}, {TILES[5]}
    found = measure(*TILES)
    assert "1 of its values differ" in found[TILES[0]].failure
    assert found[TILES[5]].failure == "it cannot be built"
    assert len([tile for tile in TILES if found[tile].ratio]) == 10
    assert said == []


def test_a_failing_default_beside_boards_that_vanish(measure: Any, boards: MadeUpBoards) -> None:
    boards.wrong = {DEFAULT}
    failed = threading.Event()

    def event(board: int, what: str, _tile: str) -> None:
        if what == "share":
            if board:
                assert failed.wait(30)
                boards.kill(board)
            else:
                threading.Timer(0.2, failed.set).start()

    boards.event = event
    with pytest.raises(KernelError, match="the default tile fails"):
        measure(*TILES)


@pytest.mark.parametrize("how", ["crashing", "wrong", "unbuildable"])
def test_a_failing_default_is_an_error_when_all_have_ended(
    measure: Any, boards: MadeUpBoards, how: str
) -> None:
    setattr(boards, how, {DEFAULT})
    with pytest.raises(KernelError, match="the default tile fails"):
        measure(*TILES)
    assert sorted(boards.free) == [0, 1, 2]


def test_the_second_look_stays_on_one_board(measure: Any, boards: MadeUpBoards) -> None:
    measure(*TILES[:2])
    assert len({board for board, *_ in boards.log}) == 1


def test_an_interrupt_ends_every_session(boards: MadeUpBoards, make_layer: Any) -> None:
    started, release = threading.Semaphore(0), threading.Event()

    def event(_board: int, what: str, _tile: str) -> None:
        if what == "share":
            started.release()
            release.wait(30)

    def measure() -> None:
        with contextlib.suppress(KernelError):
            fleet.measure(make_layer(7, 7, 16, 32), DEFAULT, TILES, ROUNDS)

    boards.event = event
    with FleetMeasurer(PROFILE, TRACKER) as fleet:
        jobs = threading.Thread(target=measure)
        jobs.start()
        assert all(started.acquire(timeout=30) for _ in range(3))
    assert len(boards.sessions) == 3
    assert all(session.aborted for session in boards.sessions)
    release.set()
    jobs.join(30)
    assert not jobs.is_alive()


def test_tiles_of_the_space_cross_the_fleet(boards: MadeUpBoards, make_layer: Any) -> None:
    spec = make_layer(7, 7, 16, 32)
    default, *tiles = tiles_of(spec, PROFILE.target())
    with FleetMeasurer(PROFILE, TRACKER) as fleet:
        assert set(fleet.measure(spec, default, tiles[:20], ROUNDS)) == {default, *tiles[:20]}
