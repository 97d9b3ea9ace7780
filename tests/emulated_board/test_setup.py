"""The emulated board, and what its setup refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).with_name("setup.sh")
# Prints the architecture and whether the CPU has the dot product (bit 20 of AT_HWCAP, kind 16).
PROBE = """
import ctypes, platform, numpy, tvm.rpc.server
print(platform.machine(), ctypes.CDLL(None).getauxval(16) >> 20 & 1)
"""


def setup(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SETUP, *arguments], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("arguments", [[], ["--cache", "x"], ["--speed", "2", "board"]])
def test_wrong_arguments_show_the_usage(arguments: list[str]) -> None:
    done = setup(*arguments)
    assert done.returncode == 1
    assert "usage: setup.sh" in done.stderr


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    done = setup(tmp_path)
    assert done.returncode == 1
    assert "left alone" in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(("cpu", "dotprod"), [("cortex-a72", 0), ("cortex-a76", 1)])
def test_the_board_runs_tvm_and_has_the_chosen_cpu(
    board_python: Path, cpu: str, dotprod: int
) -> None:
    environment = {**os.environ, "ARM_BOARD_CPU": cpu}
    said = subprocess.check_output([board_python, "-c", PROBE], env=environment, text=True)
    assert said.split() == ["aarch64", str(dotprod)]
