"""The search: batches of tiles that the cost model likes, where a model's time goes.

A tile counts only after a comparison of its own with the default tile, in turn, over many rounds:
the best of many noisy times is always too good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.database import Database, Entry
from tvm_probq.tuning.measure import Measured, Measurer
from tvm_probq.tuning.model import CostModel
from tvm_probq.tuning.space import Space, space_of
from tvm_probq.tuning.tasks import Task

BATCH = 12
EXPLORED = 3  # of a batch, at random: the model never learns of what it never proposes
ROUNDS = 11
CONFIRMING_ROUNDS = 41
MOST_RATIO = 0.97  # a gain below 3 % cannot be told from noise
LEAST_WINS = 0.75  # of the rounds
BETTER_RATIO = 0.99  # than the tile chosen so far
PATIENCE = 4  # batches without a better tile, after which a layer is done
DECAY = 0.6  # worth of a further batch on a layer; once more for one without a better tile
GUESSED_MACS_PER_US, DEPTHWISE_MACS_PER_US = 1.5e5, 3e4  # until it is measured
GATES = ("instruction", "workspace", "equals the simulator")


@dataclass(frozen=True)
class Step:
    """What one batch gave.

    Attributes
    ----------
    task : Task
        The layer.
    entry : Entry or None
        What is known of it now; None if its default kernel fails.
    failure : str
        Why that is.
    """

    task: Task
    entry: Entry | None
    failure: str = ""


class LayerSearch:
    """The search over one layer's tiles.

    Parameters
    ----------
    task : Task
        The layer.
    space : Space
        Its tiles.
    entry : Entry or None
        What is known of it.
    """

    def __init__(self, task: Task, space: Space, entry: Entry | None) -> None:
        self.task, self.space, self.entry = task, space, entry
        self.default, self._tiles = space.default, dict.fromkeys(space.tiles())
        known = {} if entry is None else entry.trials
        self.trials = {tile: ratio for tile, ratio in known.items() if self.owns(tile)}
        self.others = {tile: ratio for tile, ratio in known.items() if not self.owns(tile)}
        self.failure = ""

    def owns(self, tile: Tile) -> bool:
        """Whether a tile is of this space."""
        return tile in self._tiles

    @property
    def best(self) -> Tile | None:
        """The tile chosen so far, None for the default."""
        return None if self.entry is None else self.entry.tile

    @property
    def idle(self) -> int:
        """Batches since the best tile was found."""
        tried = list(self.trials)
        since = tried.index(self.best) + 1 if self.best in self.trials else 0
        return (len(tried) - since) // BATCH

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to propose."""
        return not self._left

    @property
    def done(self) -> bool:
        """Whether a further batch is not worth it."""
        tired = self.idle >= PATIENCE or self.exhausted
        return bool(self.failure) or (self.entry is not None and tired)

    @property
    def worth(self) -> float:
        """How much a further batch promises: time in the model, less after every batch."""
        spec = self.task.spec
        speed = DEPTHWISE_MACS_PER_US if spec.depthwise else GUESSED_MACS_PER_US
        time_us = spec.macs / speed if self.entry is None else self.entry.tuned_us
        worth: float = self.task.count * time_us * DECAY ** (len(self.trials) / BATCH + self.idle)
        return worth

    def propose(self, model: CostModel, rng: np.random.Generator) -> list[Tile]:
        """Give the next batch: what the model likes, and some at random."""
        left = self._left
        order = rng.permutation(len(left))
        if not model.ready or len(left) <= BATCH:
            return [left[i] for i in order[:BATCH]]
        scores = model.predict(self.space, left)
        liked = list(np.argsort(scores, kind="stable")[: BATCH - EXPLORED])
        others = [i for i in order if i not in set(liked)]
        return [left[i] for i in (liked + others)[:BATCH]]

    def learn(
        self, model: CostModel, tiles: Sequence[Tile], found: Mapping[Tile, Measured]
    ) -> None:
        """Tell the model what was measured."""
        model.learn(self.space, tiles, [found[tile].ratio for tile in tiles])

    def remind(self, model: CostModel) -> None:
        """Tell the model what an earlier run measured."""
        model.learn(self.space, list(self.trials), list(self.trials.values()))

    @property
    def _left(self) -> list[Tile]:
        return [t for t in self._tiles if t != self.default and t not in self.trials]


SearchOf = Callable[[Task, Space, Entry | None], LayerSearch]


class Tuner:
    """Tunes layers and keeps what it learns in a database.

    Parameters
    ----------
    tasks : sequence of Task
        What to tune.
    target : tvm.target.Target
        What kernels are generated for.
    database : Database
        Continued, and changed after every batch.
    measurer : Measurer
        The machine.
    machine : str
        Its name, for the entries.
    threads : int
        Threads of a kernel.
    seed : int
        Of the exploration.
    search_of : callable, optional
        Makes the search of a layer: the space.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        target: tvm.target.Target,
        database: Database,
        measurer: Measurer,
        *,
        machine: str = "",
        threads: int = 1,
        seed: int = 0,
        search_of: SearchOf = LayerSearch,
    ) -> None:
        self._database, self._measurer = database, measurer
        self._machine, self._threads = machine, threads
        self._rng = np.random.default_rng(seed)
        self._model = CostModel(seed)
        self._searches = [
            search_of(task, space_of(task.spec, target), database.entries.get(task.key))
            for task in tasks
        ]
        for search in self._searches:
            search.remind(self._model)

    @property
    def done(self) -> bool:
        """Whether no layer has anything left to try."""
        return all(search.done for search in self._searches)

    def run(self, enough: Callable[[], bool]) -> Iterator[Step]:
        """Measure batch after batch until `enough` says so or nothing is left.

        Every step leaves the database consistent, so the caller may save it, or stop, at any; and
        so does an error of the measurer, such as that no board is left.
        """
        while not enough():
            open_searches = [s for s in self._searches if not s.done]
            if not open_searches:
                return
            search = max(open_searches, key=lambda s: s.worth)
            try:
                self._batch(search)
            except KernelError as error:
                search.failure = error.why or error.what
            yield Step(search.task, search.entry, search.failure)

    def _batch(self, search: LayerSearch) -> None:
        spec, default = search.task.spec, search.default
        batch = search.propose(self._model, self._rng)
        found = self._measurer.measure(spec, default, batch, ROUNDS)
        batch = [tile for tile in batch if tile in found]
        search.trials |= {tile: found[tile].ratio for tile in batch}
        search.learn(self._model, batch, found)
        self._keep(search, self._entry(search, found[default]))
        # The second look also corrects the ratio of a tile that it refuses.
        best = self._confirmed(search, found, batch)
        self._keep(search, best or self._entry(search, found[default]))

    def _keep(self, search: LayerSearch, entry: Entry | None) -> None:
        search.entry = entry
        if entry is not None:
            self._database.entries[search.task.key] = entry

    def _entry(self, search: LayerSearch, default: Measured) -> Entry | None:
        """The entry with the new trials, its decision as before."""
        if search.entry is not None:
            return replace(
                search.entry,
                trials={**search.others, **search.trials},
                tried=max(search.entry.tried, len(search.others) + len(search.trials)),
            )
        return self._decided(search, None, default, default) if default.time_us else None

    def _confirmed(
        self, search: LayerSearch, found: dict[Tile, Measured], batch: Sequence[Tile]
    ) -> Entry | None:
        """A new decision, if the batch's best is measurably faster than the one so far."""
        timed = {tile: found[tile] for tile in batch if found[tile].ratio is not None}
        if not timed or search.entry is None:
            return None
        tile = min(timed, key=lambda t: timed[t].ratio or 0.0)
        so_far = min(search.entry.ratio, MOST_RATIO)
        if (timed[tile].ratio or 1.0) > so_far:
            return None
        rivals = [tile] if search.best is None else [tile, search.best]
        again = self._measurer.measure(search.task.spec, search.default, rivals, CONFIRMING_ROUNDS)
        mine, default = again.get(tile, Measured()), again[search.default]
        if mine.ratio is None:
            return None
        search.trials[tile] = mine.ratio
        rival = again.get(search.best, Measured()).ratio if search.best is not None else None
        if mine.ratio > MOST_RATIO or mine.wins < LEAST_WINS:
            return None
        if rival is not None and mine.ratio > BETTER_RATIO * rival:
            return None
        return self._decided(search, tile, mine, default)

    def _decided(
        self, search: LayerSearch, tile: Tile | None, mine: Measured, default: Measured
    ) -> Entry:
        trials = {**search.others, **search.trials}
        return Entry(
            tile, mine.time_us, default.time_us, GATES, self._machine, time.strftime("%Y-%m-%d"),
            self._threads, len(trials), trials,
        )  # fmt: skip
