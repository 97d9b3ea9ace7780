"""Every tutorial runs from top to bottom, and what it asserts holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import require_board

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.py"))
PROSE = "# %% [markdown]"
CODE = "# %%"
QUICKSTART_LINES = 40


def code_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_tutorials_are_there() -> None:
    assert [path.name for path in TUTORIALS] == [
        "01_quickstart.py",
        "02_in_your_build.py",
        "03_autotune.py",
        "04_arm_rpc.py",
        "05_mixed_bits.py",
        "06_cuda.py",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the tutorials' images come with scikit-learn")
    if "arm" in path.stem:
        require_board()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_begins_with_prose_and_asserts_its_claims(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"{PROSE}\n# # ")
    assert text.count(f"\n{CODE}\n") >= 3
    assert any(line.lstrip().startswith("assert ") for line in code_lines(path))


def test_quickstart_is_short() -> None:
    assert len(code_lines(TUTORIALS[0])) < QUICKSTART_LINES
