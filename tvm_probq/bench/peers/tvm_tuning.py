"""MetaSchedule on TVM's float kernels, its database kept in the cache folder."""

from __future__ import annotations

import logging
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm
    from tvm.ir import IRModule

    from tvm_probq.bench.peers.job import Job

KIND = "tvm-fp32-tuning"
PACKAGES = ("apache-tvm",)
RECIPE = "packed products"  # of the kernels that are tuned: another one needs another database
TIMEOUT_S = 60
RUNS = 3
SPAN_MS = 20
ROUNDS = range(4, 33)  # trials of one kernel in a row
LOGGER = "tvm.s_tir.meta_schedule"
FOREIGN = ("cuda", "rocm", "metal", "hexagon", "riscv_cpu", "arm_cpu")


def skip_foreign_intrinsics() -> None:
    """Stub the intrinsics of other targets, whose import takes half a minute, in every worker."""
    for name in FOREIGN:
        module = f"tvm.s_tir.tensor_intrin.{name}"
        sys.modules.setdefault(module, types.ModuleType(module))


def tuned(mod: IRModule, target: tvm.target.Target, job: Job) -> tuple[IRModule, int]:
    """Tune a module's kernels and apply the best schedules found, now or in earlier runs.

    Parameters
    ----------
    mod : IRModule
        Legalized and fused.
    target : tvm.target.Target
        With a number of cores.
    job : Job
        Gives the budget; trials that the database has already are not repeated.

    Returns
    -------
    mod : IRModule
        Kernels with a schedule are marked ``tirx.is_scheduled``.
    trials : int
        In the database.
    """
    skip_foreign_intrinsics()
    from tvm import relax
    from tvm.s_tir import meta_schedule as ms

    key = job.key(*PACKAGES, target=str(target), recipe=RECIPE)
    folder = job.cache.get(KIND, key, lambda _folder: None)
    files = [str(folder / name) for name in ("workload.json", "records.json")]
    database = ms.database.JSONDatabase(*files)
    missing = job.trials - len(database.get_all_tuning_records())
    if missing > 0:
        job.say(f"tvm-fp32: tuning, {missing} trials")
        _tune(mod, target, str(folder), database, missing)
    with target, database:
        mod = relax.transform.MetaScheduleApplyDatabase()(mod)
    return mod, len(database.get_all_tuning_records())


def _tune(
    mod: IRModule, target: tvm.target.Target, folder: str, database: Any, trials: int
) -> None:
    from tvm.s_tir import meta_schedule as ms

    logging.getLogger(LOGGER).setLevel(logging.ERROR)
    share = trials // max(1, len(mod.functions))
    ms.relax_integration.tune_relax(
        mod, {}, target, folder, trials,
        num_trials_per_iter=max(ROUNDS.start, min(share, ROUNDS.stop - 1)),
        builder=ms.builder.LocalBuilder(
            max_workers=1, initializer=skip_foreign_intrinsics, timeout_sec=TIMEOUT_S
        ),
        runner=ms.runner.LocalRunner(
            evaluator_config=ms.runner.EvaluatorConfig(
                number=1, repeat=RUNS, min_repeat_ms=SPAN_MS
            ),
            initializer=skip_foreign_intrinsics, timeout_sec=TIMEOUT_S,
        ),
        database=database, seed=0,
    )  # fmt: skip
