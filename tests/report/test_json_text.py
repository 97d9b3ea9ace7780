"""Results as strict JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tvm_probq.errors import UsageError
from tvm_probq.report.json_text import json_text, write_json


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_what_is_not_finite_becomes_null() -> None:
    text = json_text({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf,)}})
    assert json.loads(text, parse_constant=refuse) == {
        "a": None,
        "b": [None, 1.5],
        "c": {"d": [None]},
    }


def test_paths_become_text_and_other_values_stay() -> None:
    values = {"path": Path("a/b"), "flag": True, "none": None, "count": 3}
    assert json.loads(json_text(values)) == {**values, "path": "a/b"}


def test_a_file_is_written(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", {"a": 1})
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}


def test_a_bad_place_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the JSON result cannot be written"):
        write_json(tmp_path / "none" / "out.json", {})
