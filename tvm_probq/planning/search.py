"""The best plan of a model for a target within a budget: measure, choose, check."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from tvm_probq.build.memory import Peak
from tvm_probq.errors import PlanError
from tvm_probq.latency.network import NetworkLatency
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.allocate import Allocation
from tvm_probq.planning.budget import KL, NOISE, Budget
from tvm_probq.planning.measure import measure
from tvm_probq.planning.options import REFERENCE, Option
from tvm_probq.planning.peak import check_peak, restricted, within_peak
from tvm_probq.planning.planner import (
    Prices,
    choose,
    choose_greedily,
    plan_of_allocation,
    prices,
    with_measured_times,
)
from tvm_probq.planning.sizes import NetworkSizes
from tvm_probq.planning.study import Sensitivity
from tvm_probq.planning.subject import Subject
from tvm_probq.planning.table import SensitivityTable

LOSSES = (NOISE, KL)
IF_NEEDED, ALWAYS, NEVER = "if needed", "always", "never"
SLOWER = (IF_NEEDED, ALWAYS, NEVER)
SAME = 0.03  # share of a layer's estimated time that counts as none
# A plan that takes more than its options alone promise is made again, this often.
RETRIES = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What a plan is to be.

    Attributes
    ----------
    budget : Budget
        What it may cost.
    options : sequence of Option
        What every layer is offered, the reference first (`tvm_probq.planning.options.options_of`).
    loss : str
        What is kept least: one of `LOSSES`.
    slower : str
        When options are offered that make a layer slower than the reference's, on a target that was
        measured: one of `SLOWER`.
    """

    budget: Budget
    options: Sequence[Option]
    loss: str = NOISE
    slower: str = IF_NEEDED


@dataclass(frozen=True)
class Found:
    """A plan, and what is known of it.

    Attributes
    ----------
    prices : Prices
        Of all options.
    best : Allocation
        The optimum.
    greedy : Allocation or None
        What a greedy choice finds, if anything.
    plan : Plan
        Of the optimum.
    parameter_bytes, peak, latency
        Of the network with the plan.
    reference : NetworkSizes
        Of the network with the reference's option.
    """

    prices: Prices
    best: Allocation
    greedy: Allocation | None
    plan: Plan
    parameter_bytes: int
    peak: Peak
    latency: NetworkLatency
    reference: NetworkSizes


class Watch(Protocol):
    """Sees how a search goes on."""

    def steps(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Give `items` on, `total` of them, of a step."""

    def say(self, text: str) -> None:
        """Hear what is being done."""


class Silent:
    """A `Watch` that shows nothing."""

    def steps(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Give `items` on."""
        del total, what
        yield from items

    def say(self, text: str) -> None:
        """Show nothing."""


def find_plan(
    subject: Subject,
    wish: Wish,
    table: SensitivityTable,
    path: Path | None = None,
    *,
    jobs: int = 1,
    scheduler: str = "",
    watch: Watch | None = None,
) -> Found:
    """The plan with the least loss within a budget.

    Parameters
    ----------
    subject : Subject
        What is planned.
    wish : Wish
        The budget and the options.
    table : SensitivityTable
        What is known of `subject.key`; what it lacks is measured and added.
    path : Path, optional
        Where the table is saved after each measurement.
    jobs : int, optional
        Processes that measure.
    scheduler : str, optional
        Address of a Dask scheduler whose workers measure instead.
    watch : Watch, optional
        Sees how it goes on.

    Raises
    ------
    PlanError
        When no plan is within the budget, or the loss is not defined for the model's outputs.
    EnvironmentProblem
        When a scheduler is given and Dask is not installed.
    """
    watch = watch or Silent()
    networks = _sized(subject, wish.options, table, path, watch)
    allowed = within_peak(wish.budget.peak, networks)
    if not allowed:
        check_peak(wish.budget.peak, subject.reference_peak())
    names = [option.name for option in wish.options if option.name != REFERENCE]
    tasks = table.missing(subject.study.layers, names)
    if table.measured and tasks and path is not None:
        watch.say(f"continuing {path}, {len(tasks)} left to measure")
    work = measure(subject.study, table, tasks, path, jobs, scheduler)
    for _ in watch.steps(work, len(tasks), "measuring"):
        pass
    found = prices(subject.study.layers, networks, table.measured, _reference(table))
    if wish.loss == KL and found.reference.kl is None:
        raise PlanError(
            "the loss is kl, but the outputs are no class scores", where=subject.model.source,
            fix="leave out --loss, or give noise",
        )  # fmt: skip
    chosen = _planned(subject, wish, found, allowed, networks[REFERENCE], watch)
    check_peak(wish.budget.peak, chosen.peak)
    return chosen


def _sized(
    subject: Subject,
    options: Sequence[Option],
    table: SensitivityTable,
    path: Path | None,
    watch: Watch,
) -> dict[str, NetworkSizes]:
    """Bytes and times by option, from the table where it has them."""
    known = table.sizes.setdefault(subject.target_key, {})
    missing = [option for option in options if option.name not in known]
    for option in watch.steps(missing, len(missing), "sizing"):
        known[option.name] = subject.sizes(option)
        if path is not None:
            table.save(path)
    return {option.name: known[option.name] for option in options}


def _reference(table: SensitivityTable) -> Sensitivity:
    if table.reference is None:
        raise PlanError("the reference was not measured", fix="report it")
    return table.reference


def _planned(
    subject: Subject,
    wish: Wish,
    found: Prices,
    allowed: list[str],
    reference: NetworkSizes,
    watch: Watch,
) -> Found:
    """The plan of the options `allowed`: without slower layers if that can be."""
    if not subject.is_measured:
        return _chosen(subject, wish, found, restricted(found, allowed), reference)
    everything = with_measured_times(found, SAME, slower=True)
    if wish.slower != ALWAYS:
        without = with_measured_times(found, SAME)
        try:
            return _chosen(subject, wish, everything, restricted(without, allowed), reference)
        except PlanError:
            if wish.slower == NEVER or without == everything:
                raise
        watch.say("no plan is within the budget unless some layers take longer")
    return _chosen(subject, wish, everything, restricted(everything, allowed), reference)


def _chosen(
    subject: Subject, wish: Wish, known: Prices, found: Prices, reference: NetworkSizes
) -> Found:
    """A plan of the options `found` that really takes no more parameter bytes than the budget."""
    limit, margin = wish.budget.size_bytes(found.uniform.parameter_bytes), 0
    for _ in range(RETRIES):
        best = choose(found, wish.budget, wish.loss, margin)
        plan = plan_of_allocation(subject.study.plan, found, best, wish.loss)
        size, peak, latency = subject.pricing.of_plan(plan)
        if limit is None or size <= limit:
            greedy = choose_greedily(found, wish.budget, wish.loss, margin)
            return Found(known, best, greedy, plan, size, peak, latency, reference)
        margin += math.ceil(size - limit)
    raise PlanError(
        f"no plan within {limit:.0f} bytes was found", where="--budget",
        why="together the layers take more than each alone", fix="allow less, so that more is left",
    )  # fmt: skip
