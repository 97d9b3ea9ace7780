"""The database: there and back, damaged, of another version, merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.errors import TuningError
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.database import (
    Database,
    open_database,
    parse_database,
    read_database,
    shipped_database,
)
from tvm_probq.tuning.key import layer_key
from tvm_probq.tuning.machine import machine_name, parse_machine_name


def test_there_and_back(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    database.save(path)
    again = read_database(path, "x86-vnni")
    assert again.entries == database.entries
    assert again.to_text() == database.to_text() == path.read_text()
    assert again.name == "db.json"


def test_an_empty_one_there_and_back(tmp_path: Path) -> None:
    Database("x86-avx2").save(tmp_path / "db.json")
    assert read_database(tmp_path / "db.json", "x86-avx2").entries == {}


def test_it_is_readable_one_line_a_layer(database: Database) -> None:
    lines = database.to_text().splitlines()
    assert sum(line.startswith('  "conv ') for line in lines) == len(database.entries) == 2
    data = json.loads(database.to_text())
    assert data["format"] == 1
    entry = data["layers"]["conv 1x1/1x1 1x14x14x32 -> 14x14x96 w8 codes"]
    assert entry["tile"] == {
        "columns": 7, "blocks": 2, "rows": 1, "column_tiles": 4, "channel_tasks": 1,
    }  # fmt: skip
    assert (entry["tuned_us"], entry["default_us"]) == (80.0, 100.0)
    assert entry["machine"] == "a machine"


def test_it_gives_tiles_by_layer(database: Database, make_layer: Any) -> None:
    assert database.get(make_layer(14, 14, 32, 96, correction=False)) == Tile(7, 2, 1, 4, 1)
    assert database.get(make_layer(7, 7, 64, 40)) is None  # nothing was faster than the default
    assert database.get(make_layer(7, 7, 64, 41)) is None  # never measured


@pytest.mark.parametrize("bits", [6, 4, 2])
def test_fewer_bits_have_the_tile_of_eight_until_they_have_their_own(
    database: Database, entry: Any, make_layer: Any, bits: int
) -> None:
    spec = make_layer(14, 14, 32, 96, weight_bits=bits)
    assert database.get(spec) == Tile(7, 2, 1, 4, 1)
    assert database.get(make_layer(14, 14, 33, 96, weight_bits=bits)) is None
    small = layer_key(make_layer(14, 14, 32, 96, small_weights=True))
    database.entries[small] = entry(Tile(2, 1, 1, 1, 1, trace="[]"))  # of MetaSchedule
    assert database.get(spec) == Tile(7, 2, 1, 4, 1)
    database.entries[small] = entry(Tile(2, 1, 1, 1, 1))
    assert database.get(spec) == Tile(2, 1, 1, 1, 1)
    database.entries[layer_key(spec)] = entry(None)  # the default one was the fastest
    assert database.get(spec) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "holds no table"),
        ("{}", "format None"),
        ('{"format": 2, "target": "x", "layers": {}}', "format 2, this version reads 1"),
        ('{"format": 1, "target": "x"}', "incomplete"),
        ('{"format": 1, "target": "x", "layers": {"a": {}}}', "incomplete"),
        ('{"format": 1, "target": "x", "layers": []}', "incomplete"),
    ],
)
def test_a_damaged_one_is_explained(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    path.write_text(text)
    with pytest.raises(TuningError, match=message) as error:
        open_database(path, "x")
    assert error.value.where == str(path)
    assert error.value.fix
    assert path.read_text() == text


@pytest.mark.parametrize(
    "change",
    [{"tile": {"columns": 7}}, {"tile": {"columns": "7"}}, {"tile": 3}, {"tuned_us": 0.0},
     {"default_us": None}, {"tile": {"columns": 0, "blocks": 1}}, {"trials": [1]},
     {"tile": {"columns": 1, "blocks": 1, "rows": 1, "column_tiles": 1, "strange": 1}}],
)  # fmt: skip
def test_a_damaged_entry_is_explained(database: Database, change: dict[str, Any]) -> None:
    data = json.loads(database.to_text())
    next(iter(data["layers"].values())).update(change)
    with pytest.raises(TuningError, match="damaged"):
        parse_database(json.dumps(data), "here", "db")


def test_a_truncated_one_is_refused(database: Database, tmp_path: Path) -> None:
    text = database.to_text()
    for end in (10, len(text) // 2, len(text) - 3):
        with pytest.raises(TuningError, match="damaged"):
            parse_database(text[:end], "here", "db")


def test_one_of_another_target_is_refused(database: Database, tmp_path: Path) -> None:
    database.save(tmp_path / "db.json")
    with pytest.raises(TuningError, match="of the target x86-vnni, not x86-avx2"):
        read_database(tmp_path / "db.json", "x86-avx2")
    with pytest.raises(TuningError, match="of the target x86-avx2, not x86-vnni"):
        database.merge(Database("x86-avx2"))


def test_a_missing_one_is_begun_or_explained(tmp_path: Path) -> None:
    assert open_database(tmp_path / "db.json", "x").entries == {}
    with pytest.raises(TuningError, match="cannot be read"):
        read_database(tmp_path / "db.json", "x")
    with pytest.raises(TuningError, match="cannot be written"):
        open_database(tmp_path / "none" / "db.json", "x")


def test_a_failed_write_changes_nothing(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    database.save(path)
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(TuningError, match="cannot be written"):
        Database("x86-vnni").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["db.json"]


def test_merging_takes_the_entry_that_tried_more(
    database: Database, make_layer: Any, entry: Any
) -> None:
    common, theirs = layer_key(make_layer(14, 14, 32, 96)), layer_key(make_layer(3, 3, 8, 8))
    tile = Tile(2, 2, 1, 1, 1)
    other = Database(
        "x86-vnni", {common: entry(tile, tried=9, trials={tile: 0.7}), theirs: entry(None)}
    )
    trials = {**database.entries[common].trials, tile: 0.7}
    database.merge(other)
    assert len(database.entries) == 3
    assert database.entries[common].tile == tile
    assert database.entries[common].trials == trials
    less = Database("x86-vnni", {common: entry(None, tried=1)})
    database.merge(less)
    assert database.entries[common].tile == tile


def test_trials_can_be_left_out(database: Database) -> None:
    slim = database.without_trials()
    assert [e.tile for e in slim.entries.values()] == [e.tile for e in database.entries.values()]
    assert not any(e.trials for e in slim.entries.values())
    assert slim.identity == database.identity
    assert len(slim.to_text()) < len(database.to_text())


def test_the_identity_follows_the_tiles(database: Database, entry: Any) -> None:
    before = database.identity
    key = next(iter(database.entries))
    database.entries[key] = entry(Tile(1, 1, 1, 1, 1))
    assert database.identity != before


def test_the_shipped_one_is_sound() -> None:
    database = shipped_database("x86-vnni")
    assert len(database.entries) > 50
    assert any(entry.tile for entry in database.entries.values())
    for key, entry in database.entries.items():
        assert entry.machine
        assert entry.tile is None or entry.ratio < 1, key
        assert not entry.trials
        assert (entry.tile is None) == (entry.ratio == 1), key


def test_the_processor_is_named() -> None:
    text = "processor : 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A CPU\n\nmodel name: B\n"
    assert parse_machine_name(text) == "A CPU, family 6, model 143"
    assert parse_machine_name("") == ""
    assert machine_name()


def test_a_target_without_a_shipped_one_has_an_empty_one() -> None:
    assert shipped_database("x86-64").entries == {}
    assert shipped_database("../tuned/x86-vnni").entries == {}
