"""``tvm-probq tune``: measure loop sizes of a model's kernels, on this machine or on boards."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import calibrate, options, plans, samples, sources, tune_batch, tune_search
from tvm_probq.cli.progress import say
from tvm_probq.errors import UsageError
from tvm_probq.report.tables import Cell, table
from tvm_probq.target import profile as profiles

if TYPE_CHECKING:
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.data.cards import Card
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.plan.plan import Plan
    from tvm_probq.target.profile import TargetProfile
    from tvm_probq.tuning.database import Database
    from tvm_probq.tuning.tasks import Task

HELP = "measure loop sizes of a model's kernels, here or on boards; an interrupted run is continued"
DEFAULT_MINUTES = 5.0
SHAPE_SAMPLES = 2  # the least a record takes: only the shapes of layers matter
HEADERS = ("layer", "count", "default us", "tuned us", "ratio", "GMAC/s", "tried")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(parser)
    parser.add_argument(
        "--database",
        type=Path,
        metavar="FILE",
        help="the database to write or to continue (default TARGET.tuned.json)",
    )
    parser.add_argument(
        "--minutes",
        type=options.positive_number,
        default=DEFAULT_MINUTES,
        metavar="M",
        help="time to spend (default %(default)s)",
    )
    parser.add_argument("--target", help="a hardware profile (default: the best for this machine)")
    parser.add_argument(
        "--layers",
        metavar="PATTERN",
        help="only layers whose key holds this regular expression, such as `3x3` or `^dense`",
    )
    parser.add_argument(
        "--space",
        choices=tune_search.SPACES,
        default=tune_search.SPACES[0],
        help="loop sizes of our templates, or MetaSchedule's own tiling with our intrinsic "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--threads", type=options.positive, default=1, metavar="N", help="of a kernel (default 1)"
    )
    parser.add_argument(
        "--batch", type=options.positive, default=1, metavar="N", help="samples a call (default 1)"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="RECORD", help="what `tvm-probq calibrate` wrote"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random numbers (default 0)")
    plans.add_plan(parser)
    options.add_board(parser)
    tune_batch.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Tune until the time is over or nothing is left to try."""
    plan = plans.plan_from(args)
    profile = profiles.load_profile(args.target) if args.target else profiles.host_profile()
    tune_batch.check(args, profile)
    plans.check_target(plan, profile)
    if args.export is not None or args.results is not None:
        return _batch(args, plan, profile)
    board = options.board_of(args)
    tune_search.check_space(args.space, profile)
    machine = tune_search.machine_of(args, profile, board)
    path = args.database or Path(f"{profile.name}.tuned.json")
    from tvm_probq.tuning.database import open_database

    database = open_database(path, profile.name)
    tasks = chosen(_tasks(args, plan), args.layers)
    if args.space == "metaschedule":
        tasks = tune_search.suiting(tasks, profile)
    continued = sum(task.key in database.entries for task in tasks)
    start = f"{len(tasks)} distinct layers, {continued} of them in {path} already"
    say(f"tuning for {profile.name} on {machine}: {start}", quiet=args.quiet)
    started = time.monotonic()
    with tune_search.measurer_of(args, profile, board) as measurer:
        tuner = tune_search.tuner_of(args, profile, database, tasks, measurer, machine)
        failures = tune_search.search(args, tuner, database, path)
    return {
        "database": str(path),
        "target": profile.name,
        "space": args.space,
        "machine": machine,
        "threads": args.threads,
        "continued": continued,
        "seconds": round(time.monotonic() - started, 1),
        "layers": [_row(task, database, failures.get(task.key, "")) for task in tasks],
    }


def show(result: dict[str, Any]) -> str:
    """Lay the layers out, and the sum over all of them."""
    if "batch" in result:
        return tune_batch.show_export(result)
    rows: list[list[Cell]] = [
        [row["layer"], row["count"], row["default_us"], row["tuned_us"], row["ratio"],
         row["gmac_per_s"], row["tried"]]
        for row in result["layers"]
    ]  # fmt: skip
    text = table(HEADERS, rows) + "\n"
    failed = [row for row in result["layers"] if row["failure"]]
    text += "".join(f"\n{row['layer']}: {row['failure']}" for row in failed)
    before, after = (
        sum((row[name] or 0.0) * row["count"] for row in result["layers"])
        for name in ("default_us", "tuned_us")
    )
    share = f" ({100 * (1 - after / before):.1f} % less)" if before else ""
    return (
        f"{text}\nall measured layers: {before:.0f} us by default, {after:.0f} us tuned{share}\n"
        f"{result['database']}: give it to `tvm-probq compile --database`"
    )


def chosen(tasks: Sequence[Task], pattern: str | None) -> list[Task]:
    """Give the tasks whose key holds a regular expression.

    Raises
    ------
    UsageError
        If it is none, or none fits.
    """
    try:
        found = [task for task in tasks if re.search(pattern or "", task.key)]
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is no regular expression", where="--layers", why=str(error),
            fix="escape special characters by a backslash",
        ) from error  # fmt: skip
    if not found:
        keys = "; ".join(task.key for task in tasks) or "none"
        raise UsageError(
            "no layer is left to tune", where="--layers" if pattern else "the model",
            why=f"the model's integer layers are: {keys}", fix="give a part of one of them",
        )  # fmt: skip
    return found


def _batch(args: argparse.Namespace, plan: Plan, profile: TargetProfile) -> dict[str, Any]:
    """Build a batch, or take its results over."""
    from tvm_probq.tuning.database import open_database

    path = args.database or Path(f"{profile.name}.tuned.json")
    database = open_database(path, profile.name)
    if args.results is None:
        return tune_batch.export(args, profile, database, chosen(_tasks(args, plan), args.layers))
    rows = tune_batch.take_over(args, database)
    database.save(path)
    return {"database": str(path), "target": profile.name, "layers": rows}


def _tasks(args: argparse.Namespace, plan: Plan) -> list[Task]:
    """Import, calibrate and quantize the model; its distinct integer layers."""
    card = sources.card_of(args)
    model, record = sources.model_of(args, card), None
    if model.keeps_parameters:
        plan = plans.kept_plan(args, model.source)
    else:
        plan = plans.override_layers(plan, args, sources.layer_names(model))
        record = _record(args, card, model)
    if args.batch != 1:
        model = sources.model_of(args, card, args.batch)
    from tvm_probq.build.compile import quantized
    from tvm_probq.passes.lower_layers import layer_specs
    from tvm_probq.tuning.tasks import tasks_of

    return tasks_of(layer_specs(quantized(model, plan, record)))


def _record(args: argparse.Namespace, card: Card | None, model: Model) -> CalibrationRecord:
    """Any record of the model will do: ranges do not change a kernel's loops."""
    if args.calibration is not None:
        return calibrate.load_record(args.calibration, model)
    form = samples.only_input(model.inputs, str(model.source))
    if card is not None:
        source = samples.of_card(card, form, SHAPE_SAMPLES)
    else:
        source = samples.of_chance(form, SHAPE_SAMPLES, args.seed)
    record = calibrate.new_record(model, source)
    return calibrate.collect(model, source, record, None, quiet=True)


def _row(task: Task, database: Database, failure: str) -> dict[str, Any]:
    entry = database.entries.get(task.key)
    row: dict[str, Any] = {"layer": task.key, "count": task.count, "failure": failure}
    if entry is None:
        empty = ("default_us", "tuned_us", "ratio", "gmac_per_s", "tile")
        return {**row, **dict.fromkeys(empty), "tried": 0}
    plain = entry.to_json()
    return {
        **row,
        "default_us": plain["default_us"],
        "tuned_us": plain["tuned_us"],
        "ratio": round(entry.ratio, 4),
        "gmac_per_s": round(task.spec.macs / entry.tuned_us / 1000, 2),
        "tile": plain["tile"],
        "tried": entry.tried,
    }
