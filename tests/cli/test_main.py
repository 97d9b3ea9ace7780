"""The entry point: options, errors, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.cli import doctor, main, targets
from tvm_probq.errors import DataError

COMMANDS = (
    "demo", "calibrate", "compile", "run", "deploy", "eval", "bench", "inspect", "board", "targets",
    "doctor",
)  # fmt: skip


def test_help_names_every_command_and_loads_no_tvm() -> None:
    code = (
        "import sys\n"
        "from tvm_probq.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as leave: print('status', leave.code, 'tvm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "status 0 False" in done.stdout
    assert all(f"    {name}" in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_common_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main([name, "--help"])
    text = capsys.readouterr().out
    assert "--json FILE" in text
    assert "--quiet" in text


def test_the_module_and_its_version() -> None:
    command = [sys.executable, "-m", "tvm_probq", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tvm-probq 0.")
    assert "TVM 0." in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run"], ["compile", "--batch", "0", "-o", "x"], ["targets", "--fly"]],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(arguments)
    assert "usage: tvm-probq" in capsys.readouterr().err


def test_a_users_mistake_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail(_args: object) -> dict[str, Any]:
        raise DataError("it broke", where="there", why="of this", fix="that")

    monkeypatch.setattr(targets, "run", fail)
    assert main.main(["targets"]) == 2
    said = capsys.readouterr()
    assert said.err == "tvm-probq targets: error: there: it broke: of this. What to do: that\n"
    assert said.out == ""


def test_an_interrupt_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupt(_args: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(targets, "run", interrupt)
    assert main.main(["targets"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_args: object) -> dict[str, Any]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(targets, "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main.main(["targets"])


def test_a_failed_check_is_status_1_and_writes_its_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "run", lambda _args: {"ok": False, "problems": []})
    assert main.main(["doctor", "--json", str(tmp_path / "out.json"), "--quiet"]) == 1
    assert json.loads((tmp_path / "out.json").read_text()) == {"ok": False, "problems": []}


def test_quiet_says_nothing(capsys: Any) -> None:
    assert main.main(["targets", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == said.err == ""


@pytest.mark.parametrize("place", ["none/out.json", "/dev/full"])
def test_a_bad_place_for_the_json_is_a_message(tmp_path: Path, place: str, capsys: Any) -> None:
    assert main.main(["targets", "--json", str(tmp_path / place)]) == 2
    assert "the JSON result cannot be written" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "from tvm_probq.cli.main import main; import sys; sys.exit(main(['targets']))"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_clean_up(tmp_path: Path, number: signal.Signals, status: int) -> None:
    # The command sleeps inside the folder that must be gone afterwards.
    code = f"""
import signal, sys, tempfile, time
from tvm_probq.cli import main, targets
# A background job of a shell inherits an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
def work(args):
    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):
        print("ready", flush=True)
        time.sleep(60)
targets.run = work
sys.exit(main.main(["targets"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        child.send_signal(number)
        assert child.wait(timeout=20) == status
    assert not list(tmp_path.iterdir())
