"""``tvm-probq bench``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.bench import peers, threads
from tvm_probq.bench.peers import ort
from tvm_probq.cli import bench
from tvm_probq.cli.main import main
from tvm_probq.demo.digits import MODEL_PATH

Run = Callable[..., Any]
QUICK = ("--turns", "10")
FIGURES = {"ms", "process_cpu_ms", "thread_cpu_ms", "wall_ms", "quartiles_ms", "turns"}


@pytest.fixture(autouse=True)
def _tvm_is_here_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are in a process that has TVM: times mean nothing, their form does."""
    monkeypatch.setattr(bench, "use_threads", lambda threads: threads)


def needs_onnxruntime() -> None:
    pytest.importorskip("onnxruntime", reason="the peer is not installed")


def test_an_artefact_beside_peers(run: Run, artefact_path: Path, digits: Path) -> None:
    needs_onnxruntime()
    against = "ort-fp32,ort-int8,tvm-fp32"
    card = digits / "card.toml"
    done = run("bench", artefact_path, "--card", card, "--against", against, *QUICK)
    assert done.status == 0, done.error
    result = done.json
    assert list(result["peers"]) == against.split(",")
    assert result["threads"] == 1
    assert result["turns"] == 10
    assert result["ours_ms"] == result["modes"]["predicted"]["ms"] > 0
    for row in result["peers"].values():
        assert set(row) >= FIGURES
        assert row["ratio"] == pytest.approx(result["ours_ms"] / row["ms"])
    assert result["mode"] == "predicted"
    assert result["scheme"] == "w8a8"
    assert result["batch"] == 2
    assert result["clock"] == "process_cpu"
    assert result["random_calibration"] is False
    assert result["random_inputs"] is False
    assert result["left_out"] == {}
    assert result["machine"]["apache-tvm"]
    assert "ours, predicted" in done.out
    assert "RANDOM" not in done.out


def test_a_model_in_several_modes(run: Run) -> None:
    options = ("--modes", "static,dynamic,predicted", "--against", "none", "--surrogate-share")
    done = run("bench", MODEL_PATH, *options, *QUICK)
    assert done.status == 0, done.error
    result = done.json
    assert set(result["modes"]) == {"static", "dynamic", "predicted"}
    ms = {mode: row["ms"] for mode, row in result["modes"].items()}
    assert result["mode_ratios"] == pytest.approx(
        {
            "predicted/static": ms["predicted"] / ms["static"],
            "dynamic/predicted": ms["dynamic"] / ms["predicted"],
        }
    )
    assert result["peers"] == {}
    assert result["random_calibration"] is True
    assert result["calibration_samples"] == 8
    assert result["surrogate_share"]["kernel_calls"] > 0
    assert "ours calibrated on RANDOM inputs: only latency means anything" in done.out
    assert "surrogate's share" in done.out


def test_a_card_and_the_layers(run: Run, digits: Path) -> None:
    options = ("--modes", "predicted", "--samples", "4", "--against", "none", "--layers")
    done = run("bench", digits / "card.toml", *options, *QUICK)
    assert done.status == 0, done.error
    assert done.json["calibration_samples"] == 4
    assert done.json["random_calibration"] is False
    rows = done.json["layers"]["rows"]
    assert {"name", "op", "shape", "macs", "ms", "gmacs", "share_of_peak", "instruction"} <= set(
        rows[0]
    )
    assert {"conv2d", "depthwise", "dense"} <= {row["op"] for row in rows}
    assert "convolutions, all:" in done.out


def test_the_memory_of_ours(run: Run, artefact_path: Path) -> None:
    done = run("bench", artefact_path, "--against", "none", "--memory", *QUICK)
    assert done.status == 0, done.error
    (row,) = done.json["memory"].values()
    assert row["peak_bytes"] >= row["before_bytes"] > 0


def test_a_cache_is_kept(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_onnxruntime()
    line = ["bench", digits / "card.toml", "--modes", "static", "--samples", "4"]
    line += ["--against", "ort-int8", "--cache", tmp_path / "cache", *QUICK]
    assert run(*line).status == 0
    monkeypatch.setattr(ort, "prepare", lambda *_: pytest.fail("quantized again"))
    assert run(*line).status == 0
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.name.startswith("ort-int8-")


def test_without_a_float_model_the_peers_are_left_out_visibly(
    run: Run, artefact_path: Path
) -> None:
    done = run("bench", artefact_path, *QUICK)
    assert done.status == 0, done.error
    assert done.json["peers"] == {}
    assert set(done.json["left_out"]) == set(peers.PEERS)
    assert "tvm-fp32 left out: no float model is given" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--against", "tvm-fp32"), "tvm-fp32 needs the float model"),
        (("--against", "none", "--layers"), "--layers needs the float model"),
        (("--against", "tflite"), "there is no peer 'tflite'"),
        (("--modes", "static"), "--modes is given for an artefact"),
        (("--scheme", "w4a8"), "--scheme is given for an artefact"),
        (("--target", "x86-64"), "--target is given for an artefact"),
        (("--layers", "--threads", "2"), "--layers compares with the peak of one core"),
        (("--surrogate-share",), "a comparison of the modes static and predicted"),
        (("--tune-float", "-1"), "-1 trials are asked for"),
        (("--data", "x.npz", "--random-calibration", "2"), "give only one of them"),
        (("--data", "none.npz"), "the file cannot be read"),
        (("--card", "none.toml"), "none.toml"),
    ],
)
def test_options_that_do_not_fit_are_explained(
    run: Run, artefact_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = run("bench", artefact_path, *options)
    assert done.status == 2
    assert message in done.error
    assert "What to do" in done.error or "trials" in done.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", MODEL_PATH), "the float model is named twice"),
        (("--modes", "float", "--turns", "9"), "9 turns are too few for the mode float"),
        (("--target", "none"), "there is no target profile 'none'"),
        (("--scheme", "w9"), "'w9' is no scheme"),
    ],
)
def test_options_of_a_model_are_checked(run: Run, options: tuple[str, ...], message: str) -> None:
    done = run("bench", MODEL_PATH, *options)
    assert done.status == 2
    assert message in done.error


def test_an_unknown_mode_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", str(MODEL_PATH), "--modes", "static,magic"])
    assert "'magic' is no mode" in capsys.readouterr().err


def test_another_float_model_is_refused(
    run: Run, artefact_path: Path, onnx_net: Callable[..., Any], tmp_path: Path
) -> None:
    net = onnx_net(1, 8, 8)
    net("Relu", net.conv("x", 1, 4))
    done = run("bench", artefact_path, "--model", net.save(tmp_path))
    assert done.status == 2
    assert "the float model is not the one that the artefact was compiled from" in done.error
    assert "SHA-256" in done.error


def test_a_damaged_artefact_is_explained(run: Run, artefact_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.probq"
    path.write_bytes(artefact_path.read_bytes()[:-9])
    done = run("bench", path)
    assert done.status == 2
    assert "the artefact is damaged" in done.error


def test_a_missing_peer_names_the_command(
    run: Run, artefact_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else name)
    done = run("bench", artefact_path, "--against", "openvino-int8")
    assert done.status == 2
    assert "pip install nncf, or pip install 'tvm_probq[bench]'" in done.error


def test_tvm_must_not_be_imported_before(
    run: Run, artefact_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "use_threads", threads.use_threads)
    monkeypatch.delenv("TVM_NUM_THREADS", raising=False)
    done = run("bench", artefact_path)
    assert done.status == 2
    assert "TVM is imported already" in done.error
    assert "run the command as a program" in done.error


def test_as_a_program_it_sets_the_threads(artefact_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tvm_probq", "bench", str(artefact_path), *QUICK]
    command += ["--against", "none", "--json", str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 thread, 10 turns" in done.stdout
    assert (tmp_path / "result.json").is_file()


def test_ready_inputs_are_taken(run: Run, artefact_path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.ones((1, 1, 8, 8), np.float32))
    line = ["bench", artefact_path, "--data", tmp_path / "x.npz", "--against", "none", *QUICK]
    done = run(*line)
    assert done.status == 0, done.error
    assert done.json["peer_samples"] == 1
    assert done.json["random_inputs"] is False


@pytest.mark.slow
def test_the_latency_script_prints_a_table_for_each_model(repository: Path, digits: Path) -> None:
    script = str(repository / "benchmarks" / "latency.py")
    models = [str(digits / "card.toml"), str(MODEL_PATH)]
    options = ["--no-peers", "--surrogate-share", "--turns", "10", "--samples", "4"]
    command = [sys.executable, script, *models, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("card", "digits"):
        assert f"### {name}, w8a8" in done.stdout
    assert done.stdout.count("| predicted |") == 2
    assert done.stdout.count("surrogate's share:") == 2
