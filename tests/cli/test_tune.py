"""``tvm-probq tune``: a database that continues, and that `compile` uses without changing a bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.build.artefact import load_artefact
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.runtime.runner import Runner
from tvm_probq.tuning import database as databases
from tvm_probq.tuning import measure
from tvm_probq.tuning.database import Database, read_database
from tvm_probq.tuning.measure import Measured

Run = Callable[..., Any]
TARGET = ("--target", "x86-64")
LONG = ("--minutes", "60")


class MadeUpMachine:
    """Tiles of fewer columns are faster; stops the command after some batches."""

    batches = 10**6

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __enter__(self) -> MadeUpMachine:
        return self

    def __exit__(self, *_arguments: object) -> None:
        pass

    def measure(
        self, _spec: LayerSpec, default: Tile, tiles: Sequence[Tile], _rounds: int
    ) -> dict[Tile, Measured]:
        type(self).batches -= 1
        if self.batches < 0:
            raise KeyboardInterrupt
        found = {default: Measured(100.0, 1.0)}
        for tile in tiles:
            time_us = 50.0 + tile.columns + tile.rows / 10
            found[tile] = Measured(time_us, time_us / 100, 1.0)
        return found


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> type[MadeUpMachine]:
    """The command measures on a machine with made-up times."""

    class Machine(MadeUpMachine):
        pass

    monkeypatch.setattr(measure, "WorkerMeasurer", Machine)
    return Machine


def tune(run: Run, record: Path, database: Path, *options: str) -> Any:
    given = ["--calibration", record, "--database", database, *TARGET, *options]
    return run("tune", MODEL_PATH, *given)


@pytest.fixture
def tuned(run: Run, record_path: Path, tmp_path: Path, made_up: Any) -> Path:
    """A database of the network in which no layer that has a choice keeps the default tile."""
    path = tmp_path / "tuned.json"
    assert tune(run, record_path, path, *LONG).status == 0
    return path


@pytest.mark.slow
def test_it_measures_here(run: Run, record_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    done = tune(run, record_path, path, "--minutes", "0.05", "--layers", "^depthwise")
    assert done.status == 0, done.error
    (layer,) = done.json["layers"]
    assert layer["layer"].startswith("depthwise ")
    assert layer["tried"] > 0
    assert 0 < layer["tuned_us"] <= layer["default_us"]
    assert layer["gmac_per_s"] > 0
    (entry,) = read_database(path, "x86-64").entries.values()
    assert entry.machine
    assert "left  depthwise" in done.error


def test_the_result_is_a_table(run: Run, record_path: Path, tuned: Path, made_up: Any) -> None:
    done = tune(run, record_path, tuned, *LONG)
    assert done.json["continued"] == len(done.json["layers"]) > 3
    ratios = [layer["ratio"] for layer in done.json["layers"] if layer["tried"]]
    assert len(ratios) >= 5
    assert all(0.5 <= ratio < 0.7 for ratio in ratios)
    for word in ("default us", "tuned us", "GMAC/s", "% less", str(tuned)):
        assert word in done.out


def test_nothing_is_left_the_second_time(run: Run, record_path: Path, tuned: Path) -> None:
    before = tuned.read_bytes()
    done = tune(run, record_path, tuned, *LONG)
    assert done.status == 0
    assert "left  " not in done.error
    assert tuned.read_bytes() == before


def test_an_interrupt_keeps_what_was_measured(
    run: Run, record_path: Path, tmp_path: Path, made_up: Any
) -> None:
    path = tmp_path / "db.json"
    made_up.batches = 5
    done = tune(run, record_path, path, *LONG)
    assert done.status == 130
    assert "the same command continues" in done.error
    kept = read_database(path, "x86-64").entries
    assert kept
    made_up.batches = 10**6
    done = tune(run, record_path, path, *LONG)
    assert done.json["continued"] == len(kept)
    entries = read_database(path, "x86-64").entries
    assert len(entries) > len(kept)
    for key, entry in kept.items():
        known = list(entry.trials)
        assert list(entries[key].trials)[: len(known)] == known
    assert sorted(p.name for p in tmp_path.iterdir()) == ["db.json", "result.json"]


def test_compile_uses_it_and_no_bit_differs(
    run: Run, digits: Path, record_path: Path, tuned: Path, tmp_path: Path
) -> None:
    outputs, manifests = [], []
    x = np.load(digits / "inputs.npz")["image"]
    for given in ("none", str(tuned)):
        path = tmp_path / "model.probq"
        options = ["--calibration", record_path, "--database", given, *TARGET]
        done = run("compile", MODEL_PATH, "-o", path, *options)
        assert done.status == 0, done.error
        artefact = load_artefact(path)
        manifests.append(artefact.manifest)
        assert done.json["database"] == artefact.manifest.database
        with Runner(artefact) as runner:
            outputs.append(runner.run(x)[0])
    assert np.array_equal(outputs[0].view(np.uint32), outputs[1].view(np.uint32))
    default, with_tiles = manifests
    assert default.database == ""
    assert not any(layer.tile for layer in default.layers)
    assert with_tiles.database == read_database(tuned, "x86-64").identity
    tiles = [layer.tile for layer in with_tiles.layers if layer.tile]
    assert len(tiles) >= 5
    assert all(tile.startswith("columns=") for tile in tiles)
    assert "tuning" in run("inspect", tmp_path / "model.probq").out


def test_the_shipped_one_is_the_default(
    run: Run, record_path: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = read_database(tuned, "x86-64")
    monkeypatch.setattr(databases, "shipped_database", lambda _target: shipped)
    options = ["--calibration", record_path, *TARGET, "-o", tmp_path / "model.probq"]
    done = run("compile", MODEL_PATH, *options)
    assert done.json["tuned_layers"] > 0
    assert done.json["database"] == shipped.identity


def test_a_float_model_has_no_tiles(run: Run, tuned: Path, tmp_path: Path) -> None:
    options = ["--mode", "float", "--database", tuned, *TARGET, "-o", tmp_path / "model.probq"]
    done = run("compile", MODEL_PATH, *options)
    assert done.status == 0, done.error
    assert (done.json["tuned_layers"], done.json["database"]) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "7x7"], "no layer is left to tune"),
        (["--layers", "("], "is no regular expression"),
        (["--target", "x86"], "there is no target profile 'x86'"),
        (["--database", "none/db.json"], "the tuning database cannot be written"),
        (["--mode", "float"], "no layer is left to tune"),
        (["--calibration", "none.json"], "the calibration record cannot be read"),
    ],
)
def test_bad_options_are_explained(
    run: Run, record_path: Path, tmp_path: Path, made_up: Any, options: list[str], message: str
) -> None:
    done = tune(run, record_path, tmp_path / "db.json", *options)
    assert done.status == 2
    assert message in done.error
    assert "Traceback" not in done.error
    assert not (tmp_path / "db.json").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "x"])
def test_bad_minutes_are_refused(run: Run, minutes: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("tune", MODEL_PATH, "--minutes", minutes)
    assert stopped.value.code == 2


def test_a_target_that_cannot_run_here_is_refused(run: Run, tmp_path: Path) -> None:
    text = (
        'description = "not this machine"\ninstruction = ""\nfeatures = ["no-such-feature"]\n'
        'weight_bits = [8]\nactivation_bits = [8]\n[tvm_target]\nkind = "llvm"\nmcpu = "x86-64"\n'
    )
    (tmp_path / "strange.toml").write_text(text)
    done = run("tune", MODEL_PATH, "--target", tmp_path / "strange.toml")
    assert done.status == 2
    assert "cannot be timed here" in done.error
    assert "no-such-feature" in done.error


def test_a_damaged_database_is_explained(run: Run, record_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    path.write_text("{")
    output = tmp_path / "model.probq"
    options = ["--calibration", record_path, "--database", path, *TARGET]
    for done in (
        run("tune", MODEL_PATH, *options),
        run("compile", MODEL_PATH, "-o", output, *options),
    ):
        assert done.status == 2
        assert "the tuning database is damaged" in done.error
    assert path.read_text() == "{"
    assert not output.exists()


def test_a_database_of_another_target_is_refused(
    run: Run, record_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "db.json"
    Database("x86-avx2").save(path)
    options = ["--calibration", record_path, "--database", path, *TARGET]
    done = run("compile", MODEL_PATH, "-o", tmp_path / "model.probq", *options)
    assert done.status == 2
    assert "is of the target x86-avx2, not x86-64" in done.error


def test_random_inputs_do_where_no_record_is_given(
    run: Run, digits: Path, tmp_path: Path, made_up: Any
) -> None:
    for number, options in enumerate(([MODEL_PATH], ["--card", digits / "card.toml"])):
        path = tmp_path / f"{number}.json"
        done = run("tune", *options, "--database", path, *TARGET, *LONG)
        assert done.status == 0, done.error
        assert json.loads(path.read_text())["target"] == "x86-64"
