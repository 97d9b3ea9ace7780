"""Commands that use a board: the same results as here, and nothing left on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import Board, wait

from tvm_probq.cli.main import main
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.target.host import host_architecture
from tvm_probq.target.profile import host_profile


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Five samples in a file."""
    path = tmp_path / "x.npy"
    x = np.random.default_rng(0).uniform(0, 1, (5, 1, 8, 8)).astype(np.float32)
    np.save(path, x)
    return path


def test_run_gives_the_same_bytes(
    run: Any, artefact_path: Path, board: Board, place: str, inputs: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.npy", tmp_path / "there.npy"
    assert run("run", artefact_path, "--input", inputs, "-o", here).status == 0
    done = run("run", artefact_path, "--input", inputs, "-o", there, "--rpc", place)
    assert (done.status, done.json["count"]) == (0, 5)
    assert here.read_bytes() == there.read_bytes()
    wait(board.is_clean)


def test_eval_gives_the_same_scores(
    run: Any, artefact_path: Path, board: Board, place: str, digits: Path
) -> None:
    options = ["--card", digits / "card.toml", "--limit", "64", "--quiet"]
    here = run("eval", artefact_path, *options)
    there = run("eval", artefact_path, *options, "--rpc", place)
    assert there.status == 0
    assert there.json == here.json
    assert there.json["count"] == 64
    wait(board.is_clean)


def test_a_float_model_is_not_evaluated_on_a_board(run: Any, place: str, digits: Path) -> None:
    done = run("eval", MODEL_PATH, "--card", digits / "card.toml", "--rpc", place)
    assert done.status == 2
    assert "boards run artefacts only" in done.error


@pytest.mark.parametrize("given", [False, True])
def test_deploy_says_all_and_leaves_nothing(
    run: Any, artefact_path: Path, board: Board, place: str, inputs: Path, given: bool
) -> None:
    done = run("deploy", artefact_path, "--rpc", place, *(["--input", inputs] if given else []))
    assert done.status == 0
    said = done.json
    assert said["board"]["architecture"] == host_architecture()
    assert said["outputs"][0]["shape"] == [5 if given else 2, 10]
    assert 0 < said["latency_ms"]["fastest"] <= said["latency_ms"]["median"]
    assert 0 < said["latency_ms"]["runs"] <= 20
    assert "removed again" in done.out
    wait(board.is_clean)


def test_deploy_to_nobody_is_a_message(run: Any, artefact_path: Path) -> None:
    done = run("deploy", artefact_path, "--rpc", "127.0.0.1:1", "--timeout", "5")
    assert done.status == 2
    assert "deploy: error: board 127.0.0.1:1: nobody listens there" in done.error
    assert done.json == {}


def test_bench_of_an_artefact(run: Any, artefact_path: Path, board: Board, place: str) -> None:
    done = run("bench", artefact_path, "--rpc", place, "--turns", "5")
    assert done.status == 0
    said = done.json
    assert said["clock"] == "board"
    assert said["modes"]["predicted"]["turns"] == 5
    assert said["ours_ms"] == said["modes"]["predicted"]["ms"] > 0
    assert said["peers"] == {}
    assert "ort-int8" in said["left_out"]
    assert "ort-int8 left out: peers run on this machine only" in done.out
    wait(board.is_clean)


def test_bench_of_a_model_in_two_modes(run: Any, board: Board, place: str) -> None:
    options = ["--modes", "static,predicted", "--turns", "3", "--quiet"]
    target = host_profile().name
    done = run("bench", MODEL_PATH, "--rpc", place, "--target", target, *options)
    assert done.status == 0
    assert set(done.json["modes"]) == {"static", "predicted"}
    assert set(done.json["mode_ratios"]) == {"predicted/static"}
    wait(board.is_clean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "x86-64", "--layers"], "--layers is given for a board"),
        (["--target", "x86-64", "--against", "ort-int8"], "--against is given for a board"),
        ([], "a board is given without --target"),
    ],
)
def test_what_bench_cannot_do_on_a_board(
    run: Any, place: str, options: list[str], message: str
) -> None:
    done = run("bench", MODEL_PATH, "--rpc", place, *options)
    assert done.status == 2
    assert message in done.error


def test_board_info(run: Any, place: str) -> None:
    done = run("board", "info", "--rpc", place)
    assert done.status == 0
    assert done.json["architecture"] == host_architecture()
    assert done.json["client"] == ""
    assert "used by       nobody" in done.out
    assert run("board", "info", "--rpc", place, "--quiet").out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tracker", "pi:9190"], "--tracker is given without --key"),
        (["--key", "pi"], "--key is given without a board"),
    ],
)
def test_half_an_address(
    run: Any, artefact_path: Path, inputs: Path, options: list[str], message: str
) -> None:
    done = run("run", artefact_path, "--input", inputs, "-o", inputs.parent / "y.npy", *options)
    assert done.status == 2
    assert message in done.error


@pytest.mark.parametrize(
    "options", [["--rpc", "pi"], ["--rpc", "pi:1", "--tracker", "pi:2"], ["--timeout", "0"], []]
)
def test_wrong_addresses_are_usage(options: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["deploy", "model.probq", *options])
    assert "usage: tvm-probq deploy" in capsys.readouterr().err


def test_serve_refuses_strangers(run: Any) -> None:
    done = run("board", "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.status == 2
    assert "run any program as this user" in done.error
    assert "--expose" in done.error


def test_serve_until_it_is_told_to_stop(
    run: Any, artefact_path: Path, inputs: Path, tmp_path: Path
) -> None:
    port, result = tmp_path / "port", tmp_path / "served.json"
    command = [sys.executable, "-m", "tvm_probq", "board", "serve", "--port", "0", "--port-file"]
    with subprocess.Popen(
        [*command, port, "--json", result], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ), text=True,
    ) as server:  # fmt: skip
        try:
            wait(port.exists, 60.0)
            where = f"127.0.0.1:{port.read_text()}"
            output = tmp_path / "y.npy"
            done = run("run", artefact_path, "--input", inputs, "-o", output, "--rpc", where)
            assert done.status == 0
        finally:
            server.send_signal(signal.SIGTERM)
        out, log = server.communicate(timeout=20)
    assert (server.returncode, out) == (0, "stopped after 1 sessions\n")
    assert "has no password" in log
    assert json.loads(result.read_text()) == {"sessions": 1}
