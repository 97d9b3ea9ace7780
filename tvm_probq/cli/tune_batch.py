"""``tvm-probq tune`` for CUDA devices: a batch of candidates out, results in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import options
from tvm_probq.cli.progress import say
from tvm_probq.errors import UsageError

if TYPE_CHECKING:
    from tvm_probq.target.profile import TargetProfile
    from tvm_probq.tuning.database import Database
    from tvm_probq.tuning.tasks import Task

DEFAULT_CANDIDATES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="CUDA: build a batch of candidates, to be timed by the script in the folder",
    )
    parser.add_argument(
        "--candidates",
        type=options.positive,
        default=DEFAULT_CANDIDATES,
        metavar="N",
        help="of a layer in a batch (default %(default)s)",
    )
    parser.add_argument(
        "--import",
        type=Path,
        dest="results",
        metavar="RESULTS",
        help="CUDA: take what that script wrote over into the database; needs no MODEL",
    )


def check(args: argparse.Namespace, profile: TargetProfile) -> None:
    """Raise a UsageError where a batch is needed and none is asked for, or the other way round."""
    cuda = profile.tvm_target.get("kind") == "cuda"
    batch = args.export is not None or args.results is not None
    if cuda and not batch:
        raise UsageError(
            "kernels of a CUDA device are tuned in batches", where=profile.name,
            why="they are timed by a script that needs TVM's runtime alone, where the GPU is",
            fix="build one by --export FOLDER, time it there, give the results to --import",
        )  # fmt: skip
    if batch and not cuda:
        raise UsageError(
            f"batches are for CUDA devices, not for {profile.name}",
            where="--export" if args.export is not None else "--import",
            why="other targets are timed as the search goes, here or on boards (--rpc)",
            fix="leave it out, or give a CUDA device as --target",
        )  # fmt: skip
    if args.export is not None and args.results is not None:
        raise UsageError(
            "a batch is built or its results are taken over", where="--export, --import",
            why="results come from a batch that is there already", fix="give one of the two",
        )  # fmt: skip


def export(
    args: argparse.Namespace, profile: TargetProfile, database: Database, tasks: Sequence[Task]
) -> dict[str, Any]:
    """Build a batch of tiles that the database does not know."""
    from tvm_probq.tuning.batch.build import BatchBuilder

    known = {key: entry.trials for key, entry in database.entries.items()}
    builder = BatchBuilder(profile.name, profile.target(), args.candidates, args.seed)
    batch = builder.write(tasks, known, args.export, lambda line: say(line, quiet=args.quiet))
    layers = [
        {"layer": found["key"], "kernels": len(found["tiles"]), "refused": len(found["refused"])}
        for found in batch["layers"]
    ]
    return {
        "batch": str(args.export), "target": profile.name, "id": batch["id"], "layers": layers,
    }  # fmt: skip


def show_export(result: dict[str, Any]) -> str:
    """Say what to do next."""
    layers = result["layers"]
    kernels, refused = (sum(row[name] for row in layers) for name in ("kernels", "refused"))
    return (
        f"{result['batch']}: {kernels} kernels of {len(layers)} layers, {refused} refused\n"
        f"where the GPU is: python {result['batch']}/measure.py -o results.json\n"
        f"then here: tvm-probq tune --target {result['target']} --import results.json"
    )


def take_over(args: argparse.Namespace, database: Database) -> list[dict[str, Any]]:
    """Take results over into a database; a row for each layer."""
    from tvm_probq.tuning.batch import results

    found = results.read_results(args.results, database.target)
    results.take_over(database, found)
    say(f"results of {len(found.layers)} layers on {found.machine}", quiet=args.quiet)
    empty = ("count", "default_us", "tuned_us", "ratio", "gmac_per_s", "tile")
    rows = [
        {"layer": key, **dict.fromkeys(empty), "tried": 0, "failure": why}
        for key, why in found.failures.items()
    ]
    for key in found.layers:
        entry = database.entries[key]
        plain = entry.to_json()
        times = {name: plain[name] for name in ("default_us", "tuned_us", "tile", "tried")}
        row = {"layer": key, "count": 1, "gmac_per_s": None, "failure": "", **times}
        rows.append({**row, "ratio": round(entry.ratio, 4)})
    return rows
