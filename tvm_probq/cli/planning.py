"""``tvm-probq plan``: bits of every layer under a budget, to a readable plan."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tvm_probq.cli import options, planning_result, planning_subject, plans
from tvm_probq.cli.progress import progress, say
from tvm_probq.errors import PlanError, UsageError
from tvm_probq.files import check_writable, write_file
from tvm_probq.plan.plan import MODES, LayerPlan, Plan
from tvm_probq.target import profile as profiles

HELP = "pick the bits of every layer under a budget of size, latency or accuracy, to a plan"
WHAT = "the plan"
SAMPLES = 32
LOSSES = ("noise", "kl")
LEAST = {"size": "parameter_bytes", "latency": "latency_us"}

T = TypeVar("T")


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
    from tvm_probq.planning.options import default_options, options_of
    from tvm_probq.planning.planner import slower_layers
    from tvm_probq.planning.search import ALWAYS, IF_NEEDED, NEVER, SAME, Wish, find_plan
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
    slower = ALWAYS if args.allow_slower else NEVER if args.never_slower else IF_NEEDED
    found = find_plan(
        subject, Wish(budget, offered, args.loss, slower), table, cache,
        jobs=args.jobs, scheduler=args.dask, watch=Progress(args.quiet),
    )  # fmt: skip
    say("measuring the plan", quiet=args.quiet)
    result = {
        "plan": str(args.output), "model": subject.model.source, "target": profile.name,
        "mode": args.mode, "budget": str(budget), "samples": subject.key["samples"],
        **planning_result.figures(args.loss, found, subject.study.of_plan(found.plan)),
        "latency": None if estimator is None else {
            "source": estimator.source, "uniform_us": found.reference.us,
            "planned_us": found.latency.total, "interval_us": found.latency.interval,
            "slower_layers": slower_layers(found.prices, found.best, SAME),
        },
        "peak_activation_bytes": {
            "uniform": found.reference.peak, "measured": found.peak.total,
        },
        "cache": str(cache), "plot": str(args.plot) if args.plot else None,
    }  # fmt: skip
    text = planning_result.header(result) + found.plan.to_toml()
    write_file(args.output, text.encode(), what=WHAT, kind=PlanError)
    if args.plot:
        write_file(
            args.plot, planning_result.drawing(result).encode(), what="the plot", kind=PlanError
        )
    return result


def show(result: dict[str, Any]) -> str:
    """Lay out the layers, the Pareto front, and what was promised beside what came of it."""
    return planning_result.show(result)


class Progress:
    """Bars and lines on stderr, for `tvm_probq.planning.search.find_plan`."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def steps(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Show a bar while `items` are taken."""
        yield from progress(items, total, what, quiet=self.quiet or not total, unit="option")

    def say(self, text: str) -> None:
        """Tell what is being done."""
        say(text, quiet=self.quiet)


def _check_workers(args: argparse.Namespace) -> None:
    from tvm_probq.planning.cluster import check_installed

    if not args.dask:
        return
    if args.jobs > 1:
        raise UsageError(
            "--jobs and --dask are both given", fix="leave one out: the workers are processes"
        )
    check_installed()
