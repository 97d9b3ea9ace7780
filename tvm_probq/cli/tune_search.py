"""The search of ``tvm-probq tune``: on which machine, in which space, and saving as it goes."""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli.progress import say
from tvm_probq.errors import BoardError, TuningError, UsageError
from tvm_probq.target.host import missing_features

if TYPE_CHECKING:
    from tvm_probq.board.address import Address
    from tvm_probq.target.profile import TargetProfile
    from tvm_probq.tuning.database import Database
    from tvm_probq.tuning.fleet import FleetMeasurer
    from tvm_probq.tuning.measure import Measurer, WorkerMeasurer
    from tvm_probq.tuning.search import SearchOf, Step, Tuner
    from tvm_probq.tuning.tasks import Task

SPACES = ("template", "metaschedule")
OF_METASCHEDULE = (
    "it holds dense layers of 8-bit weights and whole vectors of 16 channels, on a target with "
    "vpdpbusd"
)
TEMPLATES = "use the templates' space, which holds every layer"


def check_space(space: str, profile: TargetProfile) -> None:
    """Raise a UsageError for a space that an architecture does not have."""
    if space == "metaschedule" and profile.architecture != "x86_64":
        raise UsageError(
            f"MetaSchedule's space is for x86, not for {profile.name}", where="--space",
            why=OF_METASCHEDULE, fix=TEMPLATES,
        )  # fmt: skip


def suiting(tasks: Sequence[Task], profile: TargetProfile) -> list[Task]:
    """Give the layers that MetaSchedule's rule can tile.

    Raises
    ------
    UsageError
        If there is none.
    """
    from tvm_probq.tuning.metaschedule import suits_metaschedule

    target = profile.target()
    found = [task for task in tasks if suits_metaschedule(task.spec, target)]
    if not found:
        raise UsageError(
            "none of the layers is in MetaSchedule's space", where="--space",
            why=OF_METASCHEDULE, fix=TEMPLATES,
        )  # fmt: skip
    return found


def machine_of(args: argparse.Namespace, profile: TargetProfile, board: Address | None) -> str:
    """Name what kernels are timed on, after a look at whether it can run them.

    Raises
    ------
    TuningError
        If this machine cannot.
    BoardError
        If there is no board, or it cannot.
    """
    if board is None:
        from tvm_probq.tuning.machine import machine_name

        if not profile.runs_here:
            lacking = ", ".join(missing_features(profile.features)) or profile.architecture
            raise TuningError(
                f"kernels for {profile.name} cannot be timed here",
                why=f"this machine lacks {lacking}",
                fix="tune on a machine of that kind, on a board (--rpc), or for another --target",
            )
        return machine_name()
    say(f"connecting to {board}", quiet=args.quiet)
    with _fleet(args, profile, board) as fleet:
        facts = fleet.look()
    kind = f", one of {board.key}" if board.tracker else ""
    return f"board {facts.name}, {facts.architecture}{kind}"


def measurer_of(
    args: argparse.Namespace, profile: TargetProfile, board: Address | None
) -> FleetMeasurer | WorkerMeasurer:
    """Make what measures: here, or on boards."""
    if board is not None:
        return _fleet(args, profile, board)
    from tvm_probq.tuning.measure import WorkerMeasurer

    return WorkerMeasurer(profile.tvm_target, args.threads, args.seed)


def tuner_of(
    args: argparse.Namespace,
    profile: TargetProfile,
    database: Database,
    tasks: Sequence[Task],
    measurer: Measurer,
    machine: str,
) -> Tuner:
    """Make the search."""
    from tvm_probq.tuning.search import Tuner

    target = profile.target()
    return Tuner(
        tasks,
        target,
        database,
        measurer,
        machine=machine,
        threads=args.threads,
        seed=args.seed,
        search_of=_search_of(args, target),
    )


def search(
    args: argparse.Namespace, tuner: Tuner, database: Database, path: Path
) -> dict[str, str]:
    """Run the search and save after every batch; why layers failed, by key."""
    failures: dict[str, str] = {}
    end = time.monotonic() + 60 * args.minutes
    kept = f"what was measured is in {path}; the same command continues"
    try:
        for step in tuner.run(lambda: time.monotonic() >= end):
            database.save(path)
            if step.failure:
                failures[step.task.key] = step.failure
            say(_line(step, end - time.monotonic()), quiet=args.quiet)
    except KeyboardInterrupt:
        say(f"\n{kept}", quiet=args.quiet)
        raise
    except BoardError as error:
        database.save(path)
        raise BoardError(
            f"tuning ends, no board is left: {error.what}", where=error.where, why=error.why,
            fix=f"{error.fix}; {kept}" if error.fix else kept,
        ) from error  # fmt: skip
    return failures


def _fleet(args: argparse.Namespace, profile: TargetProfile, board: Address) -> FleetMeasurer:
    from tvm_probq.tuning.fleet import FleetMeasurer

    return FleetMeasurer(
        profile, board, args.threads, args.seed, args.timeout, lambda t: say(t, quiet=args.quiet)
    )


def _search_of(args: argparse.Namespace, target: Any) -> SearchOf:
    """The search over the space that the options name."""
    if args.space == "template":
        from tvm_probq.tuning.search import LayerSearch

        return LayerSearch
    from tvm_probq.tuning.metaschedule import TraceSearch

    return functools.partial(TraceSearch, target=_with_cores(target), seed=args.seed)


def _with_cores(target: Any) -> Any:
    """The target with a number of cores, which MetaSchedule asks for."""
    from tvm.target import Target

    return Target({"num-cores": os.cpu_count() or 1, **target.export()})


def _line(step: Step, left_s: float) -> str:
    left = max(0, round(left_s))
    head = f"{left // 60:3}:{left % 60:02} left  {step.task.key}"
    if step.entry is None:
        return f"{head}: {step.failure}"
    entry = step.entry
    times = f"{entry.default_us:.1f} -> {entry.tuned_us:.1f} us ({entry.ratio:.3f})"
    return f"{head}: {times} after {len(entry.trials)} candidates"
