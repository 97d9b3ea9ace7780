"""Files are written whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_probq.errors import ArtefactError, DataError
from tvm_probq.files import check_writable, write_file

LIMIT = 4096


def test_a_new_file_has_the_content_and_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_file(path, b"abc", what="it")
    assert path.read_bytes() == b"abc"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    write_file(path, b"new", what="it")
    assert path.read_bytes() == b"new"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_file(link, b"new", what="it")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_device_is_not_replaced() -> None:
    null = Path(os.devnull)
    write_file(null, b"abc", what="it")
    assert null.is_char_device()


def test_a_full_device_is_named() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(ArtefactError, match=r"/dev/full: the artefact cannot be written: No space"):
        write_file(full, b"abc", what="the artefact", kind=ArtefactError)
    assert full.is_char_device()


@pytest.mark.parametrize(
    "act", [check_writable, lambda path, what: write_file(path, b"", what=what)]
)
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/out", "the folder .* does not exist"),
        ("folder", "it is a folder"),
        ("file/out", "Not a directory|does not exist|marked read-only"),
        ("locked/out", "marked read-only"),
        ("frozen", "marked read-only"),
    ],
)
def test_a_bad_place_is_explained(tmp_path: Path, act: object, name: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "locked").mkdir(mode=0o555)
    (tmp_path / "frozen").write_bytes(b"keep")
    (tmp_path / "frozen").chmod(0o444)
    with pytest.raises(DataError, match=rf"{name}: it cannot be written: .*({why}).*What to do"):
        act(tmp_path / name, what="it")  # type: ignore[operator]
    assert (tmp_path / "frozen").read_bytes() == b"keep"
    assert not list((tmp_path / "locked").iterdir())


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "out", what="it")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    code = f"""
import pathlib
from tvm_probq.errors import ProbqError
from tvm_probq.files import write_file
try:
    write_file(pathlib.Path({str(path)!r}), b"x" * {2 * LIMIT}, what="it")
except ProbqError as error:
    print(error)
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, preexec_fn=limit
    )
    assert "it cannot be written: File too large" in done.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "out", b"abc", what="it")
    assert not list(tmp_path.iterdir())
