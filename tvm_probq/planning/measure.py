"""Measure what a table of sensitivities lacks, in one process or several."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tvm_probq.errors import PlanError
from tvm_probq.planning.cluster import Task, measure_on
from tvm_probq.planning.options import Option
from tvm_probq.planning.study import Sensitivity, Study
from tvm_probq.planning.table import SensitivityTable

# So that processes do not compete with each other's threads.
SINGLE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_studies: list[Study] = []  # of a worker process: the one it measures


def measure(
    study: Study,
    table: SensitivityTable,
    tasks: Sequence[Task],
    path: Path | None,
    jobs: int = 1,
    scheduler: str = "",
) -> Iterator[Task]:
    """Measure each of `tasks`; after each the table is saved and the task given.

    The result does not depend on `jobs`, on the workers of a Dask `scheduler` that has an address
    here, nor on interruptions.

    Raises
    ------
    EnvironmentProblem
        When a scheduler is given and Dask is not installed.
    PlanError
        When a worker process dies, the scheduler fails, or the file cannot be written.
    """
    if table.reference is None:
        table.reference = study.reference()
    found = _alone(study, tasks) if jobs == 1 else _together(study, tasks, jobs)
    if scheduler and tasks:
        found = measure_on(scheduler, study, tasks)
    for (layer, option), sensitivity in found:
        table.add(layer, option, sensitivity)
        if path is not None:
            table.save(path)
        yield layer, option


def _alone(study: Study, tasks: Sequence[Task]) -> Iterator[tuple[Task, Sensitivity]]:
    for layer, option in tasks:
        yield (layer, option), study.alone(layer, Option.parse(option))


def _together(study: Study, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Sensitivity]]:
    study.round_weights()  # once, not in each process
    context = multiprocessing.get_context("spawn")  # TVM's threads do not survive a fork
    with _single_threads():
        pool = ProcessPoolExecutor(min(jobs, len(tasks) or 1), context, _start, (study.bare(),))
        try:
            futures = {pool.submit(_do, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise PlanError(
                "a process that measured sensitivities died", why="most often memory runs out",
                fix="run the same command with fewer --jobs: what was measured is kept",
            ) from error  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)


def _start(study: Study) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _studies.append(study)


def _do(task: Task) -> Sensitivity:
    layer, option = task
    return _studies[-1].alone(layer, Option.parse(option))


@contextmanager
def _single_threads() -> Iterator[None]:
    """Let processes that start meanwhile compute with one thread."""
    before = {name: os.environ.get(name) for name in SINGLE}
    os.environ.update(SINGLE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
