"""MetaSchedule's own tiling: proposals pass the same gates, and cross a file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.errors import KernelError
from tvm_probq.passes.lower_layers import tile_text
from tvm_probq.target.host import missing_features
from tvm_probq.tuning.bench import Bench
from tvm_probq.tuning.database import Database, read_database
from tvm_probq.tuning.measure import Measured
from tvm_probq.tuning.metaschedule import TraceSearch, suits_metaschedule
from tvm_probq.tuning.model import CostModel
from tvm_probq.tuning.search import Tuner
from tvm_probq.tuning.space import space_of, tiles_of
from tvm_probq.tuning.tasks import tasks_of
from tvm_probq.tuning.wire import tile_from_json, tile_to_json

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake", "num-cores": 2})
LAYERS = ("pointwise", "padded", "residual")


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest, make_layer: Any) -> Any:
    """Layers of the space."""
    return {
        "pointwise": make_layer(14, 14, 32, 96, activation="hard_swish"),
        "padded": make_layer(14, 14, 16, 32, 3, strides=(2, 2)),
        "residual": make_layer(7, 7, 64, 48, residual=True, correction=False),
    }[request.param]


def search_of(spec: Any, entry: Any = None) -> TraceSearch:
    return TraceSearch(tasks_of([spec])[0], space_of(spec, TARGET), entry, TARGET)


def propose(search: TraceSearch) -> list[Any]:
    return search.propose(CostModel(), np.random.default_rng(0))


def test_proposals_equal_the_simulator_or_are_refused(layer: Any) -> None:
    if missing_features(["avx512vnni"]):
        pytest.skip("this machine has no avx512vnni")
    bench, passed, refused = Bench(layer, TARGET), 0, list[str]()
    tiles = propose(search_of(layer))
    assert len(tiles) > 4
    for tile in tiles[:6]:
        try:
            assert bench.build(tile)["instructions"] > 0
            passed += 1
        except KernelError as error:
            refused.append(error.why)
    assert all("its workspace is" in why for why in refused)  # sums that are too far from their end
    assert passed > 0


def test_a_trace_crosses_a_file(layer: Any, entry: Any, tmp_path: Path) -> None:
    tile = propose(search_of(layer))[0]
    assert tile_from_json(tile_to_json(tile)) == tile
    task = tasks_of([layer])[0]
    Database("x", {task.key: entry(tile, trials={tile: 0.8})}).save(tmp_path / "db.json")
    assert read_database(tmp_path / "db.json", "x").get(layer) == tile
    assert tile_text(tile) == "metaschedule"


def test_the_search_learns_and_continues(make_layer: Any, made_up_machine: Any) -> None:
    spec = make_layer(14, 14, 32, 96)
    task, database = tasks_of([spec])[0], Database("x86-vnni")

    def tune(batches: int) -> Any:
        machine = made_up_machine(lambda tile: 60.0 + len(tile.trace) % 7)
        left = iter([False] * batches + [True] * 99)
        tuner = Tuner(
            [task], TARGET, database, machine,
            search_of=lambda t, u, e: TraceSearch(t, u, e, TARGET),
        )  # fmt: skip
        list(tuner.run(lambda: next(left)))
        return machine

    tune(2)
    entry = database.entries[task.key]
    known = set(entry.trials)
    assert len(known) > 12
    assert entry.tile in known
    assert entry.ratio == min(ratio for ratio in entry.trials.values() if ratio)
    again = tune(1)
    asked = {tile for _, batch in again.asked[:1] for tile in batch}
    assert asked
    assert not asked & known


def test_trials_of_the_other_space_are_kept(
    make_layer: Any, made_up_machine: Any, entry: Any
) -> None:
    spec = make_layer(14, 14, 32, 96)
    task = tasks_of([spec])[0]
    traced = replace(tiles_of(spec, TARGET)[0], trace="[[],[]]")
    database = Database("x86-vnni", {task.key: entry(traced, trials={traced: 0.8})})
    left = iter([False, True])
    machine = made_up_machine(lambda _tile: 120.0)
    list(Tuner([task], TARGET, database, machine).run(lambda: next(left)))
    found = database.entries[task.key]
    assert found.tile == traced
    assert traced in found.trials
    assert len(found.trials) > 1


def test_a_refused_trace_is_recorded(make_layer: Any) -> None:
    search = search_of(make_layer(14, 14, 32, 96))
    tiles = propose(search)
    found = {tile: Measured(failure="no") for tile in tiles}
    search.learn(CostModel(), tiles, found)
    search.trials |= {tile: found[tile].ratio for tile in tiles}
    assert not set(propose(search)) & set(tiles)


def test_what_suits_the_rule(make_layer: Any) -> None:
    spec = make_layer(14, 14, 32, 96)
    assert suits_metaschedule(spec, TARGET)
    for change in ({"out_channels": 90}, {"weight_bits": 4}, {"groups": 2}):
        assert not suits_metaschedule(replace(spec, **change), TARGET)
    plain = tvm.target.Target({"kind": "llvm", "mcpu": "haswell"})
    assert not suits_metaschedule(spec, plain)
    arm = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}
    assert not suits_metaschedule(spec, tvm.target.Target(arm))


def test_the_intrinsics_of_other_targets_are_not_parsed() -> None:
    code = (
        "import sys; from tvm_probq.tuning.metaschedule import import_own_intrinsics as f; f();"
        "print([n for n in ('cuda', 'rocm') if 'tvm.s_tir.tensor_intrin.' + n in sys.modules],"
        "'tvm.s_tir.tensor_intrin.x86' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
