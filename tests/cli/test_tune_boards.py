"""``tvm-probq tune`` on boards: one, a fleet of emulated ones, and boards that vanish."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from boards import SERVER, Board, running, wait
from emulation import require_board
from trackers import free_boards, tracking

from tvm_probq.board.address import Address
from tvm_probq.board.kernels import KernelSession
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.tuning.database import read_database
from tvm_probq.tuning.fleet import FleetMeasurer

Run = Callable[..., Any]
CPU, TARGET = "cortex-a76", "arm-a76"
SMALL = "^depthwise|^dense"  # 11 tiles beside the default, and none
FLEET = 3


@pytest.fixture(scope="module")
def tracker(
    board_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Address, list[Board]]]:
    """A tracker with emulated boards."""
    require_board()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(tracking())
        options = ["--tracker", f"{address.host}:{address.port}", "--key", address.key]
        boards = [
            stack.enter_context(
                running(
                    tmp_path_factory.mktemp("fleet"), *options,
                    command=[board_python, SERVER], cpu=CPU,
                )
            )
            for _ in range(FLEET)
        ]  # fmt: skip
        for board in boards:
            wait(lambda board=board: "registered at the tracker" in board.said(), 120.0)
        yield address, boards


def tune(run: Run, record: Path, database: Path, *options: str, target: str = TARGET) -> Any:
    given = ["--calibration", record, "--database", database, "--target", target, *options]
    return run("tune", MODEL_PATH, "--minutes", "10", *given)


@pytest.mark.slow
def test_an_emulated_board_measures(
    run: Run, record_path: Path, tmp_path: Path, cortex_a76: Board
) -> None:
    path, place = tmp_path / "db.json", f"127.0.0.1:{cortex_a76.address.port}"
    options = ("--rpc", place, "--layers", "^depthwise")
    done = tune(run, record_path, path, *options)
    assert done.status == 0, done.error
    (layer,) = done.json["layers"]
    assert (layer["tried"], layer["failure"]) == (11, "")
    assert 0 < layer["tuned_us"] <= layer["default_us"]
    (entry,) = read_database(path, TARGET).entries.values()
    assert None not in entry.trials.values()
    assert entry.machine == done.json["machine"]
    assert entry.machine.endswith(", aarch64")
    wait(cortex_a76.is_clean)
    again = tune(run, record_path, path, *options)
    assert (again.status, again.json["continued"]) == (0, 1)
    assert "left  " not in again.error, "nothing is left to try"
    path = tmp_path / "model.probq"
    options = ("--database", str(tmp_path / "db.json"), "--target", TARGET)
    done = run("compile", MODEL_PATH, "-o", path, "--calibration", record_path, *options)
    assert done.status == 0, done.error
    assert done.json["tuned_layers"] == (entry.tile is not None)


@pytest.mark.slow
def test_a_fleet_survives_one_of_its_boards(
    run: Run,
    record_path: Path,
    tmp_path: Path,
    tracker: tuple[Address, list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, boards = tracker
    by_port = {board.address.port: board for board in boards}
    used: list[int] = []
    killed: list[Board] = []
    output = KernelSession.output

    def kill_one(self: KernelSession, name: str) -> Any:
        port = self._place[1]
        used.append(port)
        # When all boards are at work, the third kernel of one of them is its last.
        if not killed and len(set(used)) == FLEET and used.count(port) == 3:
            killed.append(by_port[port])
            killed[0].signal(signal.SIGKILL)
        return output(self, name)

    monkeypatch.setattr(KernelSession, "output", kill_one)
    path = tmp_path / "db.json"
    place = f"{address.host}:{address.port}"
    options = ("--tracker", place, "--key", address.key, "--timeout", "40", "--layers", SMALL)
    done = tune(run, record_path, path, *options)
    assert done.status == 0, done.error
    assert len(killed) == 1
    assert killed[0].process.poll() is not None
    assert set(used) == set(by_port), "all boards were at work"
    entries = {key.split()[0]: e for key, e in read_database(path, TARGET).entries.items()}
    assert set(entries) == {"depthwise", "dense"}
    assert len(entries["depthwise"].trials) == 11
    assert None not in entries["depthwise"].trials.values()
    assert [layer["failure"] for layer in done.json["layers"]] == ["", ""]
    for board in boards:
        if board is not killed[0]:
            wait(board.is_clean)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"), [("output", signal.SIGSTOP), ("times_ns", signal.SIGKILL)]
)
def test_a_fleet_here_survives_too(
    run: Run, record_path: Path, tmp_path: Path, moment: str, number: int, monkeypatch: Any
) -> None:
    lost: list[Board] = []
    method = getattr(KernelSession, moment)

    def lose_one(self: KernelSession, *arguments: Any) -> Any:
        if not lost:
            lost.append(by_port[self._place[1]])
            lost[0].signal(number)
        return method(self, *arguments)

    with tracking() as address, contextlib.ExitStack() as stack:
        place = f"{address.host}:{address.port}"
        options = ["--tracker", place, "--key", address.key]
        boards = [
            stack.enter_context(running(tmp_path / f"board{i}", *options)) for i in range(FLEET)
        ]
        by_port = {board.address.port: board for board in boards}
        wait(lambda: free_boards(address) == FLEET, 60.0)
        monkeypatch.setattr(KernelSession, moment, lose_one)
        path = tmp_path / "db.json"
        layers = "16 -> 8x8x16.*codes$"
        done = tune(
            run, record_path, path, *options, "--timeout", "8", "--layers", layers, target="x86-64"
        )
        assert done.status == 0, done.error
        assert len(lost) == 1
        (entry,) = read_database(path, "x86-64").entries.values()
        assert len(entry.trials) == 8
        assert None not in entry.trials.values()
        for board in boards:
            if board is not lost[0]:
                wait(board.is_clean)


@pytest.mark.slow
def test_the_last_board_freezes(
    run: Run, record_path: Path, tmp_path: Path, board: Board, place: str, monkeypatch: Any
) -> None:
    times = KernelSession.times_ns

    def freeze(self: KernelSession, names: Sequence[str], rounds: int, threads: int) -> Any:
        if len(names) == 1:  # of the dense layer, which has one tile and comes last
            board.signal(signal.SIGSTOP)
        return times(self, names, rounds, threads)

    path = tmp_path / "db.json"
    options = ("--rpc", place, "--layers", "16 -> 8x8x16.*codes$|^dense")
    with monkeypatch.context() as patch:
        patch.setattr(KernelSession, "times_ns", freeze)
        done = tune(run, record_path, path, *options, "--timeout", "6", target="x86-64")
    board.signal(signal.SIGCONT)
    assert done.status == 2
    assert "tune: error" in done.error
    assert "tuning ends, no board is left: no answer within 6 s while kernels were timed" in (
        done.error
    )
    assert f"what was measured is in {path}; the same command continues" in done.error
    kept = dict(read_database(path, "x86-64").entries)
    (entry,) = kept.values()
    assert len(entry.trials) == 8
    assert None not in entry.trials.values()
    wait(board.is_clean)
    done = tune(run, record_path, path, *options, target="x86-64")
    assert done.status == 0, done.error
    entries = read_database(path, "x86-64").entries
    assert len(entries) == 2
    assert kept.items() <= entries.items()


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        (["--rpc", "127.0.0.1:1"], "arm-a76", "nobody listens there"),
        (["--rpc", "PLACE"], "arm-a76", "is for aarch64, but the board is x86_64"),
        (["--rpc", "PLACE", "--key", "pi"], "x86-64", "the board has the key '', not 'pi'"),
        (["--tracker", "127.0.0.1:1", "--key", "pi"], "arm-a76", "no tracker listens there"),
        (["--tracker", "127.0.0.1:1"], "arm-a76", "--tracker is given without --key"),
        (["--key", "pi"], "arm-a76", "--key is given without a board"),
        ([], "arm-a76", "cannot be timed here: this machine lacks .*on a board"),
        (["--space", "metaschedule"], "arm-a76", "MetaSchedule's space is for x86, not for arm"),
    ],
)
def test_what_cannot_be_is_explained_before_any_work(
    run: Run, tmp_path: Path, place: str, options: list[str], target: str, message: str
) -> None:
    given = [place if option == "PLACE" else option for option in options]
    record = tmp_path / "none.json"  # never read
    done = tune(run, record, tmp_path / "db.json", *given, target=target)
    assert done.status == 2
    assert re.search(message, done.error)
    assert "Traceback" not in done.error
    assert not (tmp_path / "db.json").exists()


@pytest.mark.slow
def test_an_interrupt_leaves_the_board_free(
    run: Run, record_path: Path, tmp_path: Path, board: Board, place: str, monkeypatch: Any
) -> None:
    measure = FleetMeasurer.measure

    def interrupted(self: FleetMeasurer, *arguments: Any) -> Any:
        measure(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(FleetMeasurer, "measure", interrupted)
    path = tmp_path / "db.json"
    options = ("--rpc", place, "--layers", "^dense")
    done = tune(run, record_path, path, *options, target="x86-64")
    assert done.status == 130
    assert "the same command continues" in done.error
    wait(board.is_clean)
