"""Measuring: continued without loss, the same in several processes, refused where it is foreign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tvm_probq.errors import PlanError
from tvm_probq.planning.measure import measure
from tvm_probq.planning.study import Study
from tvm_probq.planning.table import SensitivityTable

KEY = {"model": "a", "samples": 4}
OPTIONS = ["w4a8", "w4a8:correction=static"]
LAYERS = ["stem", "block2", "logits"]


def complete(study: Study, path: Path, jobs: int = 1) -> SensitivityTable:
    table = SensitivityTable.load(path, KEY)
    list(measure(study, table, table.missing(LAYERS, OPTIONS), path, jobs))
    return table


def test_interrupting_loses_nothing(study: Study, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    complete(study, whole)
    table = SensitivityTable.load(part, KEY)
    tasks = table.missing(LAYERS, OPTIONS)
    for done, _ in enumerate(measure(study, table, tasks, part), 1):
        assert len(SensitivityTable.load(part, KEY).missing(LAYERS, OPTIONS)) == 6 - done
        if done == 4:
            break  # as Ctrl-C would
    resumed = SensitivityTable.load(part, KEY)
    assert resumed.missing(LAYERS, OPTIONS) == tasks[4:]
    assert resumed.reference == table.reference
    complete(study.bare(), part)
    assert part.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_several_processes_measure_the_same(study: Study, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    complete(study, one)
    complete(study.bare(), two, jobs=2)
    assert one.read_bytes() == two.read_bytes()


def test_nothing_is_measured_twice(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.json"
    before = complete(study, path)
    monkeypatch.setattr(Study, "alone", None)
    monkeypatch.setattr(Study, "reference", None)
    assert complete(study.bare(), path) == before


def test_a_foreign_table_is_refused(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    complete(study, path)
    with pytest.raises(PlanError, match="of something else.*samples differ"):
        SensitivityTable.load(path, {**KEY, "samples": 5})


@pytest.mark.parametrize("damage", ["", "[]", "{}", "nan", "format"])
def test_a_damaged_table_is_refused(study: Study, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "table.json"
    complete(study, path)
    text = path.read_text()
    if damage == "nan":
        data = json.loads(text)
        data["measured"]["stem"]["w4a8"]["added_noise"] = None
        damage = json.dumps(data)
    path.write_text(text.replace('"format": 1', '"format": 9') if damage == "format" else damage)
    with pytest.raises(PlanError, match="is damaged"):
        SensitivityTable.load(path, KEY)
