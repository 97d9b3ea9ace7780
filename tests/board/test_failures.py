"""What goes wrong with boards: a clear error by the deadline, and the next client is served."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from boards import (
    ONCE,
    SHAPE,
    Board,
    assert_serves,
    running,
    wait,
    with_library,
    with_target,
)

from tvm_probq.board.address import Address
from tvm_probq.board.runner import RemoteRunner
from tvm_probq.build.artefact import Artefact
from tvm_probq.errors import BoardError

Misbehaving = Callable[[str], Artefact]
X = np.arange(6, dtype=np.float32).reshape(SHAPE)
HANG = "for (;;) pause();"
# Starting the process that speaks to the board is this machine's time, not the board's.
START_S = 30.0


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail if the body takes longer."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < limit_s


def run_once(artefact: Artefact, address: Address, timeout_s: float = 20.0) -> np.ndarray:
    with RemoteRunner(artefact, address, timeout_s) as model:
        (y,) = model.run(X)
    return np.asarray(y)


def test_nobody_listens(sound: Artefact) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address("127.0.0.1", closed.getsockname()[1])
    with within(5.0), pytest.raises(BoardError, match="nobody listens there.*board serve"):
        run_once(sound, address)


def test_a_board_that_is_killed_in_the_middle(
    misbehaving: Misbehaving, sound: Artefact, tmp_path: Path
) -> None:
    with running(tmp_path / "board") as board:
        address = board.address
        bad = misbehaving("kill(getppid(), SIGKILL); pause();")
        with within(START_S), pytest.raises(BoardError, match="session died.*nobody listens"):
            run_once(bad, address)
        board.process.wait(5)
        left = list((tmp_path / "board" / "tmp").iterdir())
        assert left
    # The next server on this machine also removes what the killed one could not.
    with running(tmp_path / "board", "--port", str(address.port)) as again:
        assert_serves(again, sound)
        assert not any(folder.exists() for folder in left)


@pytest.mark.parametrize("moment", ["before", "in the middle"])
def test_a_frozen_board(sound: Artefact, tmp_path: Path, moment: str) -> None:
    timeout_s = 2.0
    with running(tmp_path / "board") as board:
        address = board.address
        if moment == "before":
            board.signal(signal.SIGSTOP)
            with within(timeout_s + 2), pytest.raises(BoardError, match="does not answer.*frozen"):
                run_once(sound, address, timeout_s)
        else:
            with RemoteRunner(sound, address, timeout_s) as model:
                model.run(X)
                board.signal(signal.SIGSTOP)
                message = "no answer within 2 s in the middle of a run.*frozen"
                with within(timeout_s + 2), pytest.raises(BoardError, match=message):
                    model.run(X)
        board.signal(signal.SIGCONT)
        assert_serves(board, sound)


def test_another_architecture_is_refused_before_the_upload(board: Board, sound: Artefact) -> None:
    before = board.facts().ends
    with pytest.raises(
        BoardError, match=r"for riscv64, but the board is x86_64.*tvm-probq targets"
    ):
        run_once(with_target(sound, architecture="riscv64"), board.address)
    assert board.facts().ends == before


def test_a_missing_feature_is_refused_before_the_upload(board: Board, sound: Artefact) -> None:
    before = board.facts().ends
    with pytest.raises(BoardError, match="the board's CPU lacks i8mm, which the artefact needs"):
        run_once(with_target(sound, features=("sse2", "i8mm")), board.address)
    assert board.facts().ends == before


def test_an_illegal_instruction_in_the_middle(
    board: Board, misbehaving: Misbehaving, sound: Artefact
) -> None:
    before = len(board.facts().ends)
    message = "died in the middle of a run of SIGILL: its code uses an instruction"
    with within(START_S), pytest.raises(BoardError, match=message):
        run_once(misbehaving("__builtin_trap();"), board.address)
    assert len(board.facts().ends) == before + 1, "what crashes by itself is not tried again"
    assert_serves(board, sound)


def test_a_session_that_dies_by_chance_is_repeated(
    board: Board, misbehaving: Misbehaving, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    bad = misbehaving(ONCE.format(mark=mark, body="kill(getpid(), SIGKILL);"))
    assert np.array_equal(run_once(bad, board.address), X + 1)
    assert mark.exists()
    assert "SIGKILL" in board.facts().ends.values()


def test_a_session_that_dies_twice_is_given_up(
    board: Board, misbehaving: Misbehaving, sound: Artefact
) -> None:
    before = len(board.facts().ends)
    with pytest.raises(
        BoardError, match="died in the middle of a run of SIGKILL: it was killed from outside.*log"
    ):
        run_once(misbehaving("kill(getpid(), SIGKILL);"), board.address)
    assert len(board.facts().ends) == before + 2
    assert_serves(board, sound)


@pytest.mark.parametrize("library", [b"nothing", b""], ids=["garbage", "empty"])
def test_what_is_no_library_is_explained(board: Board, sound: Artefact, library: bytes) -> None:
    with pytest.raises(BoardError, match="the board cannot load the library"):
        run_once(with_library(sound, library), board.address)
    assert_serves(board, sound)


def test_a_library_that_is_cut_short(board: Board, sound: Artefact) -> None:
    half = with_library(sound, sound.library[: len(sound.library) // 2])
    with within(START_S), pytest.raises(BoardError, match="cannot load the library|SIGBUS"):
        run_once(half, board.address)
    assert_serves(board, sound)


def test_an_upload_that_arrives_cut_short(sound: Artefact, tmp_path: Path) -> None:
    # A full disk: TVM's server writes what fits and reports success.
    code = (
        "import os, sys, tvm_ffi, tvm.rpc.server\n"
        "def upload(name, content):\n"
        "    path = tvm_ffi.get_global_func('tvm.rpc.server.workpath')(name)\n"
        "    open(path, 'wb').write(bytes(content)[:1000])\n"
        "tvm_ffi.register_global_func('tvm.rpc.server.upload', upload, override=True)\n"
        "from tvm_probq.board.server.command import main\n"
        "main(sys.argv[1:])\n"
    )
    with (
        running(tmp_path / "board", command=[sys.executable, "-c", code]) as board,
        pytest.raises(BoardError, match="arrived damaged or cut short, as on a full disk"),
    ):
        run_once(sound, board.address)


def test_a_connection_that_breaks_during_the_upload(board: Board, sound: Artefact) -> None:
    big = with_library(sound, sound.library + bytes(4 << 20))
    with (
        cutting_proxy(board.address, 1 << 20) as address,
        within(START_S),
        pytest.raises(BoardError, match="the library was uploaded.*the connection to it broke"),
    ):
        run_once(big, address)
    assert_serves(board, sound)


def test_a_call_that_takes_longer_than_the_session(
    misbehaving: Misbehaving, sound: Artefact, tmp_path: Path
) -> None:
    with running(tmp_path / "board", "--max-session", "2") as board:
        with within(START_S), pytest.raises(BoardError, match="time was up.*--max-session"):
            run_once(misbehaving(HANG), board.address)
        assert_serves(board, sound)


def test_work_that_takes_longer_than_a_session_goes_on_in_the_next(
    sound: Artefact, tmp_path: Path
) -> None:
    with (
        running(tmp_path / "board", "--max-session", "1") as board,
        RemoteRunner(sound, board.address, 20.0) as model,
    ):
        for turn in range(3):
            (y,) = model.run(X + turn)
            assert np.array_equal(y, X + turn + 1)
            time.sleep(0.6)
        assert "out of time" in board.facts().ends.values()


def test_a_run_that_does_not_end(board: Board, misbehaving: Misbehaving, sound: Artefact) -> None:
    message = "no answer within 2 s in the middle of a run: the board's server answers"
    with within(START_S), pytest.raises(BoardError, match=message):
        run_once(misbehaving(HANG), board.address, 2.0)
    assert_serves(board, sound)


def test_a_busy_board(board: Board, sound: Artefact) -> None:
    with RemoteRunner(sound, board.address, 20.0) as first:
        with within(START_S), pytest.raises(BoardError, match="busy: 127.0.0.1 has had it for"):
            run_once(sound, board.address, 2.0)
        assert np.array_equal(first.run(X)[0], X + 1), "the first client notices nothing"
    assert_serves(board, sound)


def test_two_clients_take_turns(board: Board, sound: Artefact) -> None:
    found = []

    def client(offset: int) -> None:
        with RemoteRunner(sound, board.address, 30.0) as model:
            found.append(all(np.array_equal(model.run(X + i)[0], X + i + 1) for i in range(20)))

    clients = [threading.Thread(target=client, args=(offset,)) for offset in range(2)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert found == [True, True]
    assert_serves(board, sound)


def test_a_wrong_key(sound: Artefact, tmp_path: Path) -> None:
    with running(tmp_path / "board", "--key", "right") as board:
        port = board.address.port
        with within(5.0), pytest.raises(BoardError, match="has the key 'right', not 'wrong'"):
            run_once(sound, Address("127.0.0.1", port, "wrong"))
        assert np.array_equal(run_once(sound, Address("127.0.0.1", port, "right")), X + 1)


def test_another_program_listens(sound: Artefact) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        address = Address("127.0.0.1", listener.getsockname()[1])
        with within(5.0), pytest.raises(BoardError, match="no server of tvm_probq answers there"):
            run_once(sound, address)


def test_a_client_that_is_killed_in_the_middle_frees_the_board(
    board: Board, misbehaving: Misbehaving, sound: Artefact, tmp_path: Path
) -> None:
    library, mark = tmp_path / "library.so", tmp_path / "mark"
    bad = misbehaving(ONCE.format(mark=mark, body=HANG))
    library.write_bytes(bad.library)
    code = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "from tvm_probq.board.address import Address\n"
        "from tvm_probq.board.session import BoardSession\n"
        "session = BoardSession(Address('127.0.0.1', int(sys.argv[1])), lambda facts: None)\n"
        "session.load('bad', Path(sys.argv[2]).read_bytes())\n"
        "session.run('bad', {'x': numpy.zeros((2, 3), 'float32')})\n"
    )
    client = subprocess.Popen([sys.executable, "-c", code, str(board.address.port), library])
    wait(mark.exists, START_S)
    (worker,) = psutil.Process(client.pid).children()
    client.kill()
    client.wait()
    wait(lambda: not worker.is_running())
    assert_serves(board, sound)


def test_a_client_that_says_nothing_holds_up_nobody(board: Board, sound: Artefact) -> None:
    with socket.create_connection(("127.0.0.1", board.address.port)):
        assert_serves(board, sound)


@contextmanager
def cutting_proxy(board: Address, limit: int) -> Iterator[Address]:
    """Pass connections on to a board, and break each after so many bytes from the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server = socket.create_connection((board.host, board.port))
                threading.Thread(target=pump, args=(server, client, 1 << 40), daemon=True).start()
                threading.Thread(target=pump, args=(client, server, limit), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield Address("127.0.0.1", listener.getsockname()[1])


def pump(source: socket.socket, sink: socket.socket, limit: int) -> None:
    """Copy until the source ends or the limit is reached, then close both."""
    passed = 0
    try:
        while passed < limit and (block := source.recv(1 << 16)):
            sink.sendall(block)
            passed += len(block)
    except OSError:
        pass
    for sock in (source, sink):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
