"""Results of a batch in a database: decisions, and files that are something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.errors import TuningError
from tvm_probq.tuning.batch.results import read_results, take_over
from tvm_probq.tuning.database import Database
from tvm_probq.tuning.wire import tile_from_json

TARGET = "cuda-sm80"


def with_times(data: dict[str, Any], again: int) -> dict[str, Any]:
    """The results, as if the last candidate of each layer took this percentage of the default."""
    for found in data["layers"].values():
        for tile in found["tiles"]:
            tile["times_ns"] = [1000, 1001]
        found["tiles"][-1]["times_ns"] = [10 * again, 10 * again + 1]
        found["again"] = {
            "tile": found["tiles"][-1]["tile"],
            "times_ns": [10 * again] * 3, "default_ns": [1000] * 3,
        }  # fmt: skip
    return data


def taken(data: Any, folder: Path, database: Database | None = None) -> Database:
    path = folder / "r.json"
    path.write_text(json.dumps(data))
    database = database or Database(TARGET)
    take_over(database, read_results(path, TARGET))
    return database


def test_a_faster_tile_is_taken(made: Any, tmp_path: Path) -> None:
    database = taken(with_times(made.data, 50), tmp_path)
    assert len(database.entries) == 7
    for task in made.tasks:
        entry = database.entries[task.key]
        found = made.data["layers"][task.key]["tiles"]
        assert entry.tile == tile_from_json(found[-1]["tile"])
        assert (entry.tuned_us, entry.default_us) == (0.5, 1.0)
        assert entry.machine == made.data["machine"]
        assert len(entry.trials) == entry.tried == 3
        assert entry.trials[entry.tile] == 0.5
    text = database.to_text()
    assert json.loads(text)["target"] == TARGET


def test_a_tile_that_is_not_measurably_faster_is_not(made: Any, tmp_path: Path) -> None:
    database = taken(with_times(made.data, 98), tmp_path)
    for entry in database.entries.values():
        assert entry.tile is None
        assert entry.tuned_us == entry.default_us == 1.0
        assert entry.tried == 3


def test_a_later_batch_must_beat_the_tile_so_far(made: Any, tmp_path: Path) -> None:
    database = taken(with_times(made.data, 50), tmp_path)
    before = {key: entry.tile for key, entry in database.entries.items()}
    slower = with_times(made.data, 60)
    for found in slower["layers"].values():
        found["again"]["tile"] = found["tiles"][1]["tile"]
    taken(slower, tmp_path, database)
    assert {key: entry.tile for key, entry in database.entries.items()} == before
    assert all(entry.ratio == 0.5 for entry in database.entries.values())
    for found in slower["layers"].values():
        found["again"]["times_ns"] = [400] * 3
    taken(slower, tmp_path, database)
    for key, entry in database.entries.items():
        assert entry.tile == tile_from_json(slower["layers"][key]["tiles"][1]["tile"])


def test_failures_are_told_and_not_kept(made: Any, tmp_path: Path) -> None:
    data, key = with_times(made.data, 50), made.tasks[0].key
    data["layers"][key] = {"failure": "it crashed"}
    other = data["layers"][made.tasks[1].key]
    other["tiles"][1] = {"tile": other["tiles"][1]["tile"], "failure": "wrong"}
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert read_results(tmp_path / "r.json", TARGET).failures == {key: "it crashed"}
    database = taken(data, tmp_path)
    assert key not in database.entries
    trials = database.entries[made.tasks[1].key].trials
    assert trials[tile_from_json(other["tiles"][1]["tile"])] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged.*no JSON"),
        ("[]", "something else"),
        ('{"format": 1, "target": "cuda-sm80", "layers": {}}', "something else"),
        ('{"format": 2, "target": "cuda-sm80", "machine": "", "layers": {}}', "another version"),
        ('{"format": 1, "target": "cuda-sm75", "machine": "", "layers": {}}', "for cuda-sm75"),
        ('{"format": 1, "target": "cuda-sm80", "machine": "", "layers": []}', "damaged"),
    ],
)
def test_other_files_are_explained(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(TuningError, match=message) as error:
        read_results(path, TARGET)
    assert error.value.where == str(path)
    assert error.value.fix


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="cannot be read"):
        read_results(tmp_path / "r.json", TARGET)


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": []},
        {"tiles": [{"tile": {"columns": 1}}]},
        {"again": {"tile": {}, "times_ns": [1], "default_ns": [1]}},
        {"refused": 3},
    ],
)
def test_a_damaged_layer_is_explained(made: Any, change: Any, tmp_path: Path) -> None:
    data = made.data
    data["layers"][made.tasks[0].key].update(change)
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(TuningError, match="a layer is incomplete"):
        read_results(tmp_path / "r.json", TARGET)


@pytest.mark.parametrize("times", [[], [0, 1], ["1", "2"], [1.5, 2.5], [1, 2, 3]])
def test_times_that_are_none_are_explained(made: Any, times: Any, tmp_path: Path) -> None:
    data = made.data
    data["layers"][made.tasks[0].key]["tiles"][1]["times_ns"] = times
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(TuningError, match="a layer is incomplete"):
        read_results(tmp_path / "r.json", TARGET)
