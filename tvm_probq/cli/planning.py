"""``tvm-probq plan``: bits of every layer under a budget, to a readable plan."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import options, planning_result, planning_subject, plans
from tvm_probq.cli.planning_result import Chosen
from tvm_probq.cli.progress import progress, say
from tvm_probq.errors import PlanError, UsageError
from tvm_probq.files import check_writable, write_file
from tvm_probq.plan.plan import MODES, LayerPlan, Plan
from tvm_probq.target import profile as profiles

if TYPE_CHECKING:
    from tvm_probq.cli.planning_subject import Subject
    from tvm_probq.planning.budget import Budget
    from tvm_probq.planning.options import Option
    from tvm_probq.planning.planner import Prices
    from tvm_probq.planning.sizes import NetworkSizes
    from tvm_probq.planning.study import Sensitivity
    from tvm_probq.planning.table import SensitivityTable

HELP = "pick the bits of every layer under a budget of size, latency or accuracy, to a plan"
WHAT = "the plan"
SAMPLES = 32
LOSSES = ("noise", "kl")
LEAST = {"size": "parameter_bytes", "latency": "latency_us"}
SAME = 0.03  # share of a layer's estimated time that counts as none
# A plan that takes more than its options alone promise is made again, this often.
RETRIES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(parser)
    parser.add_argument(
        "--calibration", type=Path, required=True, metavar="RECORD",
        help="what `tvm-probq calibrate` wrote",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="NPZ", help="ready inputs by input name")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N",
        help="measure on N calibration samples, those that the record has not seen as far as "
        "there are any (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--target", help="a hardware profile (default: the best for this machine)")
    parser.add_argument(
        "--budget", action="append", default=[], metavar="KIND=NUMBER",
        help="size=0.6: parameter bytes, as a share of those of w8a8 everywhere; size=150000: in "
        "bytes; latency=0.9 or latency=350: estimated time, as such a share or in microseconds; "
        "drop=0.5: signal-to-noise of the outputs below that of w8a8, in dB; peak=65536: "
        "bytes of activations that are alive together; one of each kind may be given",
    )  # fmt: skip
    parser.add_argument(
        "--least", choices=tuple(LEAST), default="size",
        help="what to make least within a drop alone (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--kernels", type=Path, metavar="FILE",
        help="what `tvm-probq measure` wrote for the target (default: what is shipped with it, "
        "else the peak figures of its profile)",
    )  # fmt: skip
    slower = parser.add_mutually_exclusive_group()
    slower.add_argument(
        "--allow-slower", action="store_true",
        help="offer options that make a layer slower than 8 bits, too (default: only if no plan "
        "is within the budget without them; on a target that was measured)",
    )  # fmt: skip
    slower.add_argument(
        "--never-slower", action="store_true",
        help="no plan, rather than one with a layer that is slower than with 8 bits",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="SCHEME[:correction=C]",
        help="offer this to every layer instead of the default ones, such as w4a8 or "
        "w4a8:correction=static; may be given again; w8a8 is always offered",
    )  # fmt: skip
    parser.add_argument(
        "--loss", choices=LOSSES, default=LOSSES[0],
        help="what to keep least: noise of the outputs, or divergence of class scores "
        "(default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--mode", choices=MODES[:3], default=MODES[0], help="of all layers")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="LAYERS",
        help="layers that stay float, by name or pattern; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=options.positive, default=1, metavar="N",
        help="processes that measure (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--dask", default="", metavar="ADDRESS",
        help="measure on the workers of this Dask scheduler, such as tcp://host:8786",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, metavar="FILE",
        help="measured sensitivities, written after each and continued (default: the plan's name "
        "with .sensitivity.json)",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=Path, metavar="SVG", help="also draw the Pareto front and the plan"
    )
    options.add_output(parser, "PLAN", "the plan (TOML) to write, for `compile --plan`")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not measured yet, choose, check and write."""
    from tvm_probq.latency.estimator import estimator_of
    from tvm_probq.planning.budget import Budget
    from tvm_probq.planning.options import REFERENCE, default_options, options_of
    from tvm_probq.planning.peak import check_peak, within_peak
    from tvm_probq.planning.planner import prices, slower_layers
    from tvm_probq.planning.table import SensitivityTable

    cache = args.cache or args.output.with_suffix(".sensitivity.json")
    for path in (args.output, cache, *([args.plot] if args.plot else [])):
        check_writable(path, what=WHAT, kind=PlanError)
    _check_workers(args)
    budget = Budget.parse(args.budget, LEAST[args.least])
    offered = options_of(args.option or default_options(args.mode))
    profile = profiles.load_profile(args.target) if args.target else profiles.host_profile()
    for option in offered:
        plans.check_target(Plan(option.layer(LayerPlan())), profile)
    estimator = estimator_of(profile, args.kernels)
    if estimator is None and (budget.latency is not None or args.least == "latency"):
        raise UsageError(
            f"nothing is known of how long kernels of {profile.name} take", where="--budget",
            fix="measure them with `tvm-probq measure` and give --kernels, or add [roofline] to "
            "the profile",
        )  # fmt: skip
    subject = planning_subject.load(args, profile, estimator)
    table = SensitivityTable.load(cache, subject.key)
    networks = _sized(args, subject, offered, table, cache)
    allowed = within_peak(budget.peak, networks)
    if not allowed:
        check_peak(budget.peak, subject.reference_peak())
    _measure(args, subject, offered, table, cache)
    uniform = networks[REFERENCE]
    found = prices(subject.study.layers, networks, table.measured, _reference(table))
    if args.loss == "kl" and found.reference.kl is None:
        raise UsageError(
            "--loss kl is given, but the outputs are no class scores",
            where=subject.model.source, fix="leave it out",
        )  # fmt: skip
    found, chosen = _planned(args, subject, found, allowed, budget)
    check_peak(budget.peak, chosen.peak)
    say("measuring the plan", quiet=args.quiet)
    result = {
        "plan": str(args.output), "model": subject.model.source, "target": profile.name,
        "mode": args.mode, "budget": str(budget), "samples": subject.key["samples"],
        **planning_result.figures(args.loss, found, chosen, subject.study.of_plan(chosen.plan)),
        "latency": None if estimator is None else {
            "source": estimator.source, "uniform_us": uniform.us,
            "planned_us": chosen.latency.total, "interval_us": chosen.latency.interval,
            "slower_layers": slower_layers(found, chosen.best, SAME),
        },
        "peak_activation_bytes": {"uniform": uniform.peak, "measured": chosen.peak.total},
        "cache": str(cache), "plot": str(args.plot) if args.plot else None,
    }  # fmt: skip
    text = planning_result.header(result) + chosen.plan.to_toml()
    write_file(args.output, text.encode(), what=WHAT, kind=PlanError)
    if args.plot:
        write_file(
            args.plot, planning_result.drawing(result).encode(), what="the plot", kind=PlanError
        )
    return result


def show(result: dict[str, Any]) -> str:
    """Lay out the layers, the Pareto front, and what was promised beside what came of it."""
    return planning_result.show(result)


def _check_workers(args: argparse.Namespace) -> None:
    from tvm_probq.planning.cluster import check_installed

    if not args.dask:
        return
    if args.jobs > 1:
        raise UsageError(
            "--jobs and --dask are both given", fix="leave one out: the workers are processes"
        )
    check_installed()


def _sized(
    args: argparse.Namespace,
    subject: Subject,
    offered: list[Option],
    table: SensitivityTable,
    cache: Path,
) -> dict[str, NetworkSizes]:
    """Bytes by option, from the table where it has them."""
    known = table.sizes.setdefault(subject.target_key, {})
    missing = [option for option in offered if option.name not in known]
    quiet = args.quiet or not missing
    for option in progress(missing, len(missing), "sizing", quiet=quiet, unit="option"):
        known[option.name] = subject.sizes(option)
        table.save(cache)
    return {option.name: known[option.name] for option in offered}


def _measure(
    args: argparse.Namespace,
    subject: Subject,
    offered: list[Option],
    table: SensitivityTable,
    cache: Path,
) -> None:
    """Measure what the table lacks."""
    from tvm_probq.planning.measure import measure
    from tvm_probq.planning.options import REFERENCE

    names = [option.name for option in offered if option.name != REFERENCE]
    tasks = table.missing(subject.study.layers, names)
    if table.measured and tasks:
        say(f"continuing {cache}, {len(tasks)} left to measure", quiet=args.quiet)
    work = measure(subject.study, table, tasks, cache, args.jobs, args.dask)
    for _ in progress(work, len(tasks), "measuring", quiet=args.quiet or not tasks, unit="option"):
        pass


def _reference(table: SensitivityTable) -> Sensitivity:
    if table.reference is None:
        raise PlanError("the reference was not measured", fix="report it")
    return table.reference


def _planned(
    args: argparse.Namespace, subject: Subject, found: Prices, allowed: list[str], budget: Budget
) -> tuple[Prices, Chosen]:
    """All prices, and the plan of the options `allowed`: without slower layers if that can be."""
    from tvm_probq.planning.peak import restricted
    from tvm_probq.planning.planner import with_measured_times

    if subject.estimator is None or not subject.estimator.measured:
        return found, _chosen(args.loss, subject, restricted(found, allowed), budget)
    everything = with_measured_times(found, SAME, slower=True)
    if not args.allow_slower:
        without = with_measured_times(found, SAME)
        try:
            return everything, _chosen(args.loss, subject, restricted(without, allowed), budget)
        except PlanError:
            if args.never_slower or without == everything:
                raise
        say("no plan is within the budget unless some layers take longer", quiet=args.quiet)
    return everything, _chosen(args.loss, subject, restricted(everything, allowed), budget)


def _chosen(loss: str, subject: Subject, found: Prices, budget: Budget) -> Chosen:
    """A plan that really takes no more parameter bytes than the budget."""
    from tvm_probq.planning.planner import choose, choose_greedily, plan_of_allocation

    limit, margin = budget.size_bytes(found.uniform.parameter_bytes), 0
    for _ in range(RETRIES):
        allocation = choose(found, budget, loss, margin)
        plan = plan_of_allocation(subject.study.plan, found, allocation, loss)
        size, peak, latency = subject.costs_of(plan)
        if limit is None or size <= limit:
            greedy = choose_greedily(found, budget, loss, margin)
            return Chosen(allocation, greedy, plan, size, peak, latency)
        margin += math.ceil(size - limit)
    raise PlanError(
        f"no plan within {limit:.0f} bytes was found", where="--budget",
        why="together the layers take more than each alone", fix="allow less, so that more is left",
    )  # fmt: skip
