"""``tvm-probq measure`` on an emulated board: its own counter tells the time of kernels there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boards import Board

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.latency import ticked
from tvm_probq.latency.measured import MeasuredKernels

Run = Callable[..., Any]
CPU, TARGET = "cortex-a76", "arm-a76"
VARIANT = "w8a8 static"


def test_kernels_are_timed_on_the_board(
    cortex_a76: Board, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticked, "LEAST_RUNS", 5)
    monkeypatch.setattr(ticked, "MOST_RUNS", 5)
    path = tmp_path / "kernels.json"
    place = ("--rpc", f"127.0.0.1:{cortex_a76.address.port}")
    done = run("measure", MODEL_PATH, "--target", TARGET, *place, "--variant", VARIANT, "-o", path)
    assert done.status == 0, done.error
    found = MeasuredKernels.load(path)
    assert found.target == TARGET
    times = [m.us for m in found.measurements]
    assert len(times) > 6
    assert all(us >= 0 for us in times)
    assert sum(times) > 0
    layers = [m.kernel for m in found.measurements if m.kernel.instruction]
    assert {k.instruction for k in layers} == {
        "sdot",
        "smull",
    }  # the depthwise one has no dot product
    assert all(k.count("dots") > 0 for k in layers)


def test_a_board_of_another_kind_is_refused(cortex_a76: Board, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    place = ("--rpc", f"127.0.0.1:{cortex_a76.address.port}")
    done = run("measure", MODEL_PATH, "--target", "arm-v1", *place, "-o", path)
    assert done.status == 2
    assert "i8mm" in done.error
    assert not path.exists()
