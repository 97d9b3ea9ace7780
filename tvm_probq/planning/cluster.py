"""Measure on the workers of a Dask scheduler, which may be on other machines."""

import importlib.util
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from typing import Any

import tvm

from tvm_probq import __version__
from tvm_probq.errors import EnvironmentProblem, PlanError
from tvm_probq.planning.options import Option
from tvm_probq.planning.study import Sensitivity, Study

EXTRA = "pip install 'tvm_probq[cluster]'"
# How long to wait for the scheduler's answer, and for its first worker.
CONNECT_S, WORKER_S = 10.0, 30.0
KEPT = "run the same command again: what was measured is kept"
Task = tuple[str, str]
_studies: dict[str, Study] = {}  # of a worker: the one that it measures
_one_at_a_time = threading.Lock()  # a worker may have several threads, a study may not


def measure_on(
    address: str, study: Study, tasks: Sequence[Task]
) -> Iterator[tuple[Task, Sensitivity]]:
    """Measure tasks on the workers of a scheduler, in the order in which they end.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://host:8786``. What it sends is trusted.
    study : Study
        Is sent to each worker once.
    tasks : sequence of (str, str)
        Layers and options.

    Raises
    ------
    EnvironmentProblem
        Without Dask.
    PlanError
        When there is no scheduler or worker, a worker has other versions, or all is lost meanwhile.
    """
    check_installed()
    from distributed import KilledWorker, as_completed

    study.round_weights()  # once, not on each worker
    with closing(_connected(address)) as client:
        _check_workers(client, address)
        sent = client.scatter(study.bare(), broadcast=True, hash=False)
        name = uuid.uuid4().hex
        futures = {client.submit(_measure, sent, name, task, pure=False): task for task in tasks}
        try:
            for future in as_completed(futures, loop=client.loop):
                yield futures[future], future.result()
        except (KilledWorker, CancelledError, OSError) as error:
            why = str(error) or "the connection to the scheduler is lost"
            raise PlanError("the cluster failed", where=address, why=why, fix=KEPT) from error


def check_installed() -> None:
    """Raise an EnvironmentProblem without Dask."""
    if importlib.util.find_spec("distributed") is None:
        raise EnvironmentProblem(
            "--dask needs a package that is not installed, distributed", fix=EXTRA
        )


def versions() -> dict[str, str]:
    """What has to be the same on all machines."""
    return {"tvm_probq": __version__, "tvm": str(tvm.__version__)}


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise PlanError(
            "the Dask scheduler cannot be reached", where=f"--dask {address}", why=str(error),
            fix="start one with `dask scheduler` and give the address that it prints",
        ) from error  # fmt: skip


def _check_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_S)
    except TimeoutError as error:
        raise PlanError(
            "the Dask scheduler has no workers", where=f"--dask {address}",
            fix=f"start some with `dask worker {address} --nthreads 1 --nworkers N`",
        ) from error  # fmt: skip
    wanted = versions()
    try:
        found = client.run(versions)
    except (ImportError, AttributeError, TypeError) as error:
        found, why = {}, f"a worker has no tvm_probq that fits: {error}"
    else:
        other = {worker: found[worker] for worker in sorted(found) if found[worker] != wanted}
        if not other:
            return
        worker, has = next(iter(other.items()))
        why = f"the worker {worker} has {has}, here is {wanted}"
    raise PlanError(
        "the workers cannot measure", where=f"--dask {address}", why=why,
        fix="install the same versions on all machines",
    )  # fmt: skip


def _measure(study: Study, name: str, task: Task) -> Sensitivity:
    """On a worker: measure one task of the study `name`, of which the worker remembers much."""
    with _one_at_a_time:
        if name not in _studies:
            _studies.clear()
            _studies[name] = study.bare()  # Dask may write what it keeps to disk
        layer, option = task
        return _studies[name].alone(layer, Option.parse(option))
