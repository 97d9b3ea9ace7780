"""MetaSchedule's own tiling with our intrinsic, as a second space beside the templates.

Its rule `MultiLevelTilingWithIntrin` tiles the sums of a layer around the dot product; the epilogue
is computed where a tile is done. Evolutionary search and the xgboost cost model are MetaSchedule's;
building, timing and gates are those of the first space.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm import s_tir
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.target.codegen import target_has_features

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.conv_workload import Workload, conv_workload
from tvm_probq.kernels.x86.geometry import LANES, VectorUnit, vector_unit
from tvm_probq.kernels.x86.intrinsics import dot_intrinsic
from tvm_probq.tuning.database import Entry
from tvm_probq.tuning.measure import Measured
from tvm_probq.tuning.model import CostModel
from tvm_probq.tuning.search import BATCH, LayerSearch
from tvm_probq.tuning.space import Space
from tvm_probq.tuning.tasks import Task

FOREIGN = ("cuda", "rocm", "metal", "hexagon", "riscv_cpu")
SPATIAL = 6  # spatial loops of the sums: sample, group, block, row, column, lanes
LEVELS = (1, 2)  # tiles of the sums whose end the epilogue may wait for
POPULATION, GENERATIONS = 48, 2
MOST_TRIALS = 100_000  # the time decides
WARM_UP_SAMPLES = 16


def suits_metaschedule(spec: LayerSpec, target: tvm.target.Target) -> bool:
    """Whether the rule applies: dense, bytes, no padded channels, AVX-512 VNNI."""
    if not target_has_features("sse2", target):
        return False
    unit = vector_unit(spec, target)
    dense = spec.groups == 1 and spec.weight_bits == 8 and spec.out_channels % 16 == 0
    return dense and unit.instruction == "vpdpbusd" and unit.lanes == LANES


class TraceSearch(LayerSearch):
    """The search over one layer's traces.

    Parameters
    ----------
    task : Task
        A layer of `suits_metaschedule`.
    space : Space
        Of the templates; its default decides the layout of weights.
    entry : Entry or None
        What is known of it; its traces are the first population.
    target : tvm.target.Target
        With a number of cores.
    seed : int
        Of the search.
    """

    def __init__(
        self,
        task: Task,
        space: Space,
        entry: Entry | None,
        target: tvm.target.Target,
        seed: int = 0,
    ) -> None:
        super().__init__(task, space, entry)
        import_own_intrinsics()
        unit = vector_unit(task.spec, target)
        work = conv_workload(task.spec, unit, self.default)
        self._module = IRModule({"main": work.func.with_attr("global_symbol", "main")})
        self._database = ms.database.MemoryDatabase()
        self._model = ms.cost_model.XGBModel(num_warmup_samples=WARM_UP_SAMPLES, num_tuning_cores=1)
        self._context = ms.TuneContext(
            mod=self._module, target=target, space_generator=_space(task.spec, unit, work),
            search_strategy=ms.search_strategy.EvolutionarySearch(
                population_size=POPULATION, genetic_num_iters=GENERATIONS,
                init_min_unmeasured=BATCH,
            ),
            num_threads=1,  # the space is generated in Python
            rand_state=seed + 1,
        )  # fmt: skip
        self._proposed: dict[Tile, Any] = {}
        self._started = False

    def owns(self, tile: Tile) -> bool:
        """Whether a tile holds a trace."""
        return bool(tile.trace)

    @property
    def exhausted(self) -> bool:
        """Whether MetaSchedule has proposed nothing new; known only after it was asked."""
        return self._started and not self._proposed

    def propose(self, _model: CostModel, _rng: np.random.Generator) -> list[Tile]:
        """Give the traces that MetaSchedule likes."""
        with _quiet():
            if not self._started:
                self._start()
            candidates = self._context.generate_measure_candidates() or []
        self._proposed = {}
        for candidate in candidates:
            trace = json.dumps(_plain(candidate.sch.trace.as_json()), separators=(",", ":"))
            tile = replace(self.default, trace=trace)
            if tile not in self.trials:
                self._proposed[tile] = candidate
        self._asked = list(candidates)
        return list(self._proposed)

    def learn(
        self, _model: CostModel, tiles: Sequence[Tile], found: Mapping[Tile, Measured]
    ) -> None:
        """Tell MetaSchedule what became of its candidates."""
        by_candidate = {id(self._proposed[tile]): found[tile].ratio for tile in tiles}
        results = []
        for candidate in self._asked:
            ratio = by_candidate.get(id(candidate))
            failed = None if ratio is not None else "refused by a gate, or known"
            results.append(ms.runner.RunnerResult([ratio] if ratio is not None else None, failed))
            if ratio is not None:
                self._commit(candidate.sch.trace, ratio, candidate.args_info)
        self._context.notify_runner_results(self._asked, results)
        self._model.update(self._context, self._asked, results)

    def _start(self) -> None:
        """Give MetaSchedule its space, and what an earlier run measured."""
        for tile, ratio in self.trials.items():
            if ratio is not None:
                sch = s_tir.Schedule(self._module)
                s_tir.schedule.Trace.apply_json_to_schedule(json.loads(tile.trace), sch)
                args = ms.arg_info.ArgInfo.from_entry_func(self._module, remove_preproc=True)
                self._commit(sch.trace, ratio, args)
        self._context.pre_tuning(
            max_trials=MOST_TRIALS, num_trials_per_iter=BATCH,
            design_spaces=self._context.generate_design_space(), database=self._database,
            cost_model=self._model,
        )  # fmt: skip
        self._started = True

    def _commit(self, trace: Any, ratio: float, args: Any) -> None:
        workload = self._database.commit_workload(self._module)
        record = ms.database.TuningRecord(trace, workload, [ratio], self._context.target, args)
        self._database.commit_tuning_record(record)


def import_own_intrinsics() -> None:
    """Import TVM's intrinsics without those of other targets, which take ten seconds to parse.

    A tuning context would import them all. The stand-ins are taken away again, so that a later
    import finds the real modules.
    """
    stubs = [f"tvm.s_tir.tensor_intrin.{name}" for name in FOREIGN]
    stubs = [name for name in stubs if name not in sys.modules]
    sys.modules.update({name: types.ModuleType(name) for name in stubs})
    try:
        import tvm.s_tir.tensor_intrin  # noqa: F401
    finally:
        for name in stubs:
            del sys.modules[name]


def _space(spec: LayerSpec, unit: VectorUnit, work: Workload) -> Any:
    rule = ms.schedule_rule.MultiLevelTilingWithIntrin(
        dot_intrinsic(unit, spec.weight_bits), structure="SSRSRS", tile_binds=None,
        max_innermost_factor=64, vector_load_lens=None, reuse_read=None, reuse_write=None,
    )  # fmt: skip

    def spaces(sch: s_tir.Schedule) -> list[s_tir.Schedule]:
        # An epilogue that is computed inside a tile can have no producers outside of it.
        for name in (*work.vectors, *(["centred"] if work.vectors else [])):
            sch.compute_inline(sch.get_sblock(name))
        found = []
        for level in LEVELS:
            copy = sch.copy()
            for tiled in rule.apply(copy, copy.get_sblock("conv")):
                _place_stages(tiled, work, level)
                found.append(tiled)
        return found

    return ms.space_generator.ScheduleFn(
        spaces,
        sch_rules=[],
        postprocs=[
            ms.postproc.DisallowDynamicLoop(),
            ms.postproc.RewriteReductionBlock(),
            ms.postproc.RewriteTensorize(vectorize_init_loop=True),
        ],
        mutator_probs={ms.mutator.MutateTileSize(): 1.0},
    )


def _place_stages(sch: s_tir.Schedule, work: Workload, level: int) -> None:
    """Epilogue behind a tile of the sums, tasks in parallel, padding at a task's start."""
    sums, value = sch.get_sblock("conv_o"), sch.get_sblock("value")
    sch.reverse_compute_at(
        value, sch.get_loops(sums)[SPATIAL * level - 1], preserve_unit_loops=True
    )
    sch.vectorize(sch.split(sch.get_loops(value)[-1], [None, 16])[1])
    task = sch.fuse(*sch.get_loops(sums)[:SPATIAL])
    sch.parallel(task)
    if work.padded:
        pad = sch.get_sblock("pad")
        sch.compute_at(pad, task, preserve_unit_loops=True)
        sch.annotate(sch.get_loops(pad)[-1], "pragma_loop_partition_hint", 1)


def _plain(value: Any) -> Any:
    """Values of a trace as those of JSON."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, tvm.tirx.IntImm | tvm.tirx.FloatImm):
        return value.value
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(item) for item in value]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TVM's warning for every sample that does not fit the intrinsic from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
