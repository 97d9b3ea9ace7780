"""Sensitivities on the workers of a Dask scheduler: the same file, and every way it can fail."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.errors import EnvironmentProblem, PlanError
from tvm_probq.planning import cluster
from tvm_probq.planning.measure import measure
from tvm_probq.planning.study import Study
from tvm_probq.planning.table import SensitivityTable

KEY = {"model": "a", "samples": 4}
TASKS = [(layer, option) for layer in ("block2", "logits") for option in ("w4a8", "w3a8")]
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason=f"distributed is not installed: {cluster.EXTRA}",
)


def local(workers: int, **options: Any) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", scheduler_port=0, **options
    )


@pytest.fixture(scope="module")
def threads() -> Iterator[str]:
    """The address of a scheduler whose worker is a thread of this process."""
    with local(1, processes=False) as found:
        yield found.scheduler_address


def measured(study: Study, path: Path, tasks: list[tuple[str, str]], scheduler: str = "") -> None:
    table = SensitivityTable.load(path, KEY)
    left = [task for task in tasks if task in table.missing(*zip(*tasks, strict=True))]
    assert sorted(measure(study, table, left, path, scheduler=scheduler)) == sorted(left)


@needs_dask
@pytest.mark.slow
def test_processes_of_a_cluster_measure_the_same(study: Study, tmp_path: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    measured(study, here, TASKS)
    with local(2, processes=True) as found:
        measured(study.bare(), there, TASKS[:1], found.scheduler_address)  # as if interrupted
        measured(study.bare(), there, TASKS, found.scheduler_address)
    assert there.read_bytes() == here.read_bytes()


@needs_dask
def test_an_interruption_keeps_what_is_measured(study: Study, threads: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "part.json", tmp_path / "whole.json"
    table = SensitivityTable.load(path, KEY)
    work = measure(study, table, TASKS, path, scheduler=threads)
    done = [next(work), next(work)]  # type: ignore[call-overload]
    work.close()  # type: ignore[attr-defined]
    kept = SensitivityTable.load(path, KEY).measured
    assert {(layer, option) for layer, options in kept.items() for option in options} == set(done)
    measured(study.bare(), path, TASKS, threads)
    measured(study.bare(), whole, TASKS)
    assert path.read_bytes() == whole.read_bytes()


@needs_dask
def test_nothing_left_needs_no_scheduler(study: Study, tmp_path: Path) -> None:
    table = SensitivityTable.load(tmp_path / "table.json", KEY)
    assert list(measure(study, table, [], None, scheduler="tcp://127.0.0.1:1")) == []


@needs_dask
def test_no_scheduler(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(PlanError, match="scheduler cannot be reached") as raised:
            list(cluster.measure_on(address, study, TASKS))
        assert raised.value.where == f"--dask {address}"


@needs_dask
def test_no_worker(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WORKER_S", 0.2)
    with local(0, processes=False) as found, pytest.raises(PlanError, match="has no workers"):
        list(cluster.measure_on(found.scheduler_address, study, TASKS))


@needs_dask
def test_workers_of_another_version(
    study: Study, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [{"tvm_probq": "9"}, cluster.versions()]  # asked here first, then by the worker
    monkeypatch.setattr(cluster, "versions", lambda: known.pop(0))
    with pytest.raises(PlanError, match=r"the worker .* has .*, here is {'tvm_probq': '9'}"):
        list(cluster.measure_on(threads, study, TASKS))


@needs_dask
def test_what_a_layer_cannot_have_is_said(study: Study, threads: str) -> None:
    with pytest.raises(PlanError, match="to choose"):
        list(cluster.measure_on(threads, study, [("logits", "w4a8:correction=x")]))


@needs_dask
def test_a_scheduler_that_stops(study: Study) -> None:
    with local(1, processes=False) as found:
        work = cluster.measure_on(found.scheduler_address, study, TASKS)
        next(work)
        found.close()
        with pytest.raises(PlanError, match="the cluster failed") as raised:
            list(work)
        assert "is kept" in raised.value.fix


def test_without_dask(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentProblem, match=r"tvm_probq\[cluster\]"):
        list(cluster.measure_on("tcp://127.0.0.1:1", study, TASKS))
