"""The board's server: what it refuses, what it needs, and what it leaves."""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from boards import SERVER, Board, running, wait

from tvm_probq.board.facts import ask_facts
from tvm_probq.board.server.command import Refused, add_arguments, check
from tvm_probq.board.server.folder import PREFIX, WorkFolder
from tvm_probq.errors import BoardError
from tvm_probq.target.host import host_architecture, host_features


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost"])
def test_loopback_is_served(host: str) -> None:
    check(options("--host", host))


def test_the_default_is_loopback() -> None:
    assert options().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_other_addresses_need_a_word(host: str) -> None:
    with pytest.raises(Refused, match=r"run any program as this user.*ssh -N -L .*--expose"):
        check(options("--host", host))
    check(options("--host", host, "--expose"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tracker", "pi:9190"], "--tracker needs --key"),
        (["--key", "two words"], "a key has no spaces"),
        (["--host", "no.such.host.invalid"], "no address of this machine"),
    ],
)
def test_what_else_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        check(options(*arguments))


def test_a_port_that_is_taken(board: Board) -> None:
    command = [sys.executable, SERVER, "--port", str(board.address.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr


def test_the_folder_alone_is_enough(tmp_path: Path) -> None:
    # Under another name, without this package, from another folder: as on a board.
    copy = shutil.copytree(SERVER, tmp_path / "anything")
    code = "import sys; sys.modules['tvm_probq'] = None; import runpy; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, copy]
    with running(tmp_path / "board", command=command) as board:
        assert board.facts().architecture == host_architecture()


def test_facts_of_this_machine(board: Board) -> None:
    facts = board.facts()
    assert facts.architecture == host_architecture()
    assert facts.features == host_features()
    assert facts.versions["python"] == sys.version.split()[0]
    assert (facts.client, facts.busy_s, facts.max_session_s) == ("", 0.0, 600.0)


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64])
def test_strangers_do_no_harm(board: Board, content: bytes) -> None:
    with socket.create_connection(board_place(board)) as sock:
        sock.sendall(content)
    assert board.facts().client == ""


def board_place(board: Board) -> tuple[str, int]:
    return board.address.host, board.address.port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_leaves_nothing(tmp_path: Path, number: int) -> None:
    with running(tmp_path / "board") as board:
        place = board_place(board)
        assert list((tmp_path / "board" / "tmp").iterdir())
        board.process.send_signal(number)
        assert board.process.wait(10) == 0
        assert not list((tmp_path / "board" / "tmp").iterdir())
        with pytest.raises(BoardError, match="nobody listens"):
            ask_facts(*place, "board", 2.0)


def test_it_stops_with_its_standard_input(tmp_path: Path) -> None:
    with running(tmp_path / "board") as board:
        assert board.facts()
        assert board.process.stdin is not None
        board.process.stdin.close()
        wait(lambda: board.process.poll() is not None)


def test_abandoned_folders_are_removed_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / f"{PREFIX}old"
    abandoned.mkdir()
    (tmp_path / "other").mkdir()
    first = WorkFolder()
    assert not abandoned.exists()
    second = WorkFolder()
    assert set(tmp_path.iterdir()) == {tmp_path / "other", first.path, second.path}
    first.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]
