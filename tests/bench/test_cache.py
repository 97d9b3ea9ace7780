"""The folder of prepared peers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tvm_probq.bench.cache import Cache
from tvm_probq.errors import UsageError


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append("once")
        (folder / "model").write_text("m")

    for _ in range(2):
        path = Cache(tmp_path / "new" / "cache").get("ort", {"model": "a", "count": 3}, make)
        assert (path / "model").read_text() == "m"
    assert made == ["once"]
    assert json.loads((path / "key.json").read_text()) == {"model": "a", "count": 3}


def test_another_key_is_another_folder(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    paths = {cache.path("ort", {"count": n}) for n in range(3)}
    assert len(paths | {cache.path("ov", {"count": 0})}) == 4


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("h")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).get("ort", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the cache folder cannot be made"):
        Cache(tmp_path / "file" / "cache")
