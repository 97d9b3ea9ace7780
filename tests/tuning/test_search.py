"""The search finds the faster tile, records failures, and never makes a kernel slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tvm

from tvm_probq.errors import BoardError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.database import Database
from tvm_probq.tuning.key import layer_key
from tvm_probq.tuning.measure import Measured
from tvm_probq.tuning.search import BATCH, PATIENCE, Step, Tuner
from tvm_probq.tuning.space import tiles_of
from tvm_probq.tuning.tasks import Task, tasks_of

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})


def steps(count: int) -> Callable[[], bool]:
    """Enough after `count` batches."""
    left: Iterator[bool] = iter([False] * count + [True] * 999)
    return lambda: next(left)


@pytest.fixture
def task(make_layer: Any) -> Task:
    return tasks_of([make_layer(14, 14, 64, 128)])[0]


def tune(tasks: list[Task], machine: Any, database: Database, batches: int = 99) -> list[Step]:
    tuner = Tuner(tasks, TARGET, database, machine, machine="made up")
    return list(tuner.run(steps(batches)))


def best_of(spec: LayerSpec) -> Tile:
    """Some tile in the middle of the space."""
    tiles = tiles_of(spec, TARGET)
    return tiles[len(tiles) // 2]


def distance(a: Tile, b: Tile) -> float:
    return sum(abs(x - y) / max(x, y) for x, y in zip(fields(a), fields(b), strict=True))


def fields(tile: Tile) -> tuple[int, ...]:
    return tile.columns, tile.blocks, tile.rows, tile.column_tiles, tile.channel_tasks


def test_the_faster_tile_is_chosen(task: Task, made_up_machine: Any) -> None:
    wanted = best_of(task.spec)
    machine = made_up_machine(lambda t: 50 + 40 * distance(t, wanted))
    database = Database("x86-vnni")
    found = tune([task], machine, database)
    entry = database.entries[task.key]
    assert entry == found[-1].entry
    assert entry.tile is not None
    assert distance(entry.tile, wanted) < 0.5
    assert entry.tuned_us == 50 + 40 * distance(entry.tile, wanted) < entry.default_us == 100
    assert len(entry.trials) < len(tiles_of(task.spec, TARGET)) / 2, "that was no search"
    assert (entry.machine, entry.threads) == ("made up", 1)
    assert "equals the simulator" in entry.gates


def test_the_default_stays_where_nothing_is_faster(task: Task, made_up_machine: Any) -> None:
    database = Database("x86-vnni")
    tune([task], made_up_machine(lambda _tile: 98.0), database)
    entry = database.entries[task.key]
    assert entry.tile is None
    assert entry.ratio == 1
    assert len(entry.trials) == PATIENCE * BATCH


def test_a_lucky_time_is_not_believed(task: Task, made_up_machine: Any) -> None:
    class Lucky(made_up_machine):  # type: ignore[misc]
        """Every tile is fast in a batch and slow when it is compared for itself."""

        def measure(self, spec: Any, default: Any, tiles: Any, rounds: int) -> Any:
            self.time_us = lambda _tile: 60.0 if len(tiles) > 2 else 101.0
            return super().measure(spec, default, tiles, rounds)

    database = Database("x86-vnni")
    tune([task], Lucky(None), database, 3)
    assert database.entries[task.key].tile is None
    assert list(database.entries[task.key].trials.values()).count(1.01) == 3


def test_rounds_that_are_not_won_do_not_count(task: Task, made_up_machine: Any) -> None:
    class Unsteady(made_up_machine):  # type: ignore[misc]
        def measure(self, spec: Any, default: Any, tiles: Any, rounds: int) -> Any:
            found = super().measure(spec, default, tiles, rounds)
            return {t: Measured(m.time_us, m.ratio, 0.6) for t, m in found.items()}

    database = Database("x86-vnni")
    tune([task], Unsteady(lambda _tile: 80.0), database, 3)
    assert database.entries[task.key].tile is None


def test_a_failing_candidate_is_recorded_and_not_chosen(task: Task, made_up_machine: Any) -> None:
    def time_us(tile: Tile) -> float | None:
        return None if tile.columns % 2 else 90.0 + tile.columns / 10

    database = Database("x86-vnni")
    tune([task], made_up_machine(time_us), database)
    entry = database.entries[task.key]
    failed = [tile for tile, ratio in entry.trials.items() if ratio is None]
    assert failed
    assert all(tile.columns % 2 for tile in failed)
    assert entry.tile is not None
    assert entry.tile.columns % 2 == 0


def test_nothing_is_measured_twice(task: Task, made_up_machine: Any) -> None:
    machine = made_up_machine(lambda _tile: 120.0)
    tune([task], machine, Database("x86-vnni"))
    tiles = [tile for _, batch in machine.asked for tile in batch]
    assert len(set(tiles)) == len(tiles)


def test_a_second_run_continues(task: Task, made_up_machine: Any) -> None:
    database = Database("x86-vnni")
    tune([task], made_up_machine(lambda _tile: 120.0), database, 1)
    known = set(database.entries[task.key].trials)
    again = made_up_machine(lambda _tile: 120.0)
    tune([task], again, database)
    assert len(known) == BATCH
    assert not known & {tile for _, batch in again.asked for tile in batch}
    idle = made_up_machine(lambda _tile: 120.0)
    assert tune([task], idle, database) == []
    assert idle.asked == []


def test_a_continued_run_gives_up_a_tile_only_for_a_better_one(
    task: Task, made_up_machine: Any, entry: Any
) -> None:
    chosen = best_of(task.spec)
    database = Database("x86-vnni", {task.key: entry(chosen, trials={chosen: 0.8})})
    tune([task], made_up_machine(lambda tile: 80.0 if tile == chosen else 79.9), database)
    assert database.entries[task.key].tile == chosen
    tune([task], made_up_machine(lambda tile: 80.0 if tile == chosen else 60.0), database)
    assert database.entries[task.key].tile == chosen, "all is tried, the layer is done"


def test_time_goes_to_the_layers_that_take_it(make_layer: Any, made_up_machine: Any) -> None:
    large, small = make_layer(28, 28, 128, 128, 3), make_layer(7, 7, 64, 64)
    machine = made_up_machine(lambda _tile: 120.0)
    found = tune(tasks_of([small, large]), machine, Database("x86-vnni"), 1)
    assert [step.task.spec for step in found] == [large]
    often = [small] * 40 + [large]  # both take 100 us here, once that is known
    found = tune(tasks_of(often), machine, Database("x86-vnni"), 5)
    batches = [step.task.spec for step in found]
    assert set(batches) == {small, large}
    assert batches.count(small) > batches.count(large)


def test_a_layer_whose_default_fails_is_left_out(make_layer: Any, made_up_machine: Any) -> None:
    good, bad = make_layer(7, 7, 64, 64), make_layer(14, 14, 64, 64)
    machine = made_up_machine(lambda _tile: 80.0)
    machine.broken.add(bad)
    database = Database("x86-vnni")
    found = tune(tasks_of([bad, good]), machine, database)
    assert [s.failure for s in found if s.task.spec == bad] == ["it is broken"]
    assert set(database.entries) == {layer_key(good)}


def test_the_same_seed_proposes_the_same_tiles(task: Task, made_up_machine: Any) -> None:
    machines = [made_up_machine(lambda tile: 100.0 + tile.columns) for _ in range(2)]
    for machine in machines:
        tune([task], machine, Database("x86-vnni"))
    assert machines[0].asked == machines[1].asked


def test_a_layer_without_a_choice_is_timed_once(make_layer: Any, made_up_machine: Any) -> None:
    spec = make_layer(1, 1, 32, 10, flat=True, output="float32", activation="none")
    assert len(tiles_of(spec, TARGET)) == 1
    machine = made_up_machine(lambda _tile: 80.0)
    database = Database("x86-vnni")
    assert len(tune(tasks_of([spec]), machine, database)) == 1
    entry = database.entries[layer_key(spec)]
    assert (entry.tile, entry.default_us, entry.tried) == (None, 100.0, 0)


def test_a_tile_that_was_not_measured_is_no_failure(task: Task, made_up_machine: Any) -> None:
    class Forgetful(made_up_machine):  # type: ignore[misc]
        """Measures only a third of each batch."""

        def measure(self, spec: Any, default: Any, tiles: Any, rounds: int) -> Any:
            return super().measure(spec, default, list(tiles)[: max(1, len(tiles) // 3)], rounds)

    database = Database("x86-vnni")
    machine = Forgetful(lambda tile: 100.0 + tile.columns)
    tune([task], machine, database, 5)
    trials = database.entries[task.key].trials
    assert len(trials) == 5 * BATCH // 3
    assert None not in trials.values()


def test_an_error_behind_a_batch_keeps_the_batch(task: Task, made_up_machine: Any) -> None:
    class Vanishing(made_up_machine):  # type: ignore[misc]
        """No board is left for the second look."""

        def measure(self, spec: Any, default: Any, tiles: Any, rounds: int) -> Any:
            if len(tiles) <= 2:
                raise BoardError("no board became free")
            return super().measure(spec, default, tiles, rounds)

    database = Database("x86-vnni")
    with pytest.raises(BoardError):
        tune([task], Vanishing(lambda _tile: 80.0), database)
    entry = database.entries[task.key]
    assert (entry.tile, len(entry.trials)) == (None, BATCH)
