"""``tvm-probq compile``: an ONNX model to one file that runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import calibrate, options, plans, samples, sources
from tvm_probq.cli.progress import say
from tvm_probq.errors import ArtefactError, UsageError
from tvm_probq.files import check_writable
from tvm_probq.target import profile as profiles

if TYPE_CHECKING:
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.data.cards import Card
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.plan.plan import Plan
    from tvm_probq.tuning.database import Database

NO_DATABASE = "none"
HELP = "quantize and compile an ONNX model to one file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(parser)
    sources.add_samples(parser)
    parser.add_argument(
        "--random-calibration",
        type=options.positive,
        metavar="N",
        help="calibrate on N random inputs: for latency work only, accuracy is lost",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="RECORD", help="what `tvm-probq calibrate` wrote"
    )
    parser.add_argument("--target", help="a hardware profile (default: the best for this machine)")
    parser.add_argument(
        "--batch", type=options.positive, default=1, metavar="N", help="samples a call (default 1)"
    )
    parser.add_argument(
        "--database",
        metavar="FILE",
        help="loop sizes from what `tvm-probq tune` wrote, or `none` for those of a fixed rule "
        "(default: the database shipped for the target); the results are the same",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random numbers (default 0)")
    plans.add_plan(parser)
    options.add_output(parser, "ARTEFACT", "the file to write")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calibrate where no record is given, compile and save."""
    check_writable(args.output, what="the artefact", kind=ArtefactError)
    plan = plans.plan_from(args)
    profile = profiles.load_profile(args.target) if args.target else profiles.host_profile()
    plans.check_target(plan, profile)  # before anything takes time
    database = _database(args.database, profile.name)
    card = sources.card_of(args)
    model = sources.model_of(args, card)
    if model.keeps_parameters:
        plan, record = plans.kept_plan(args, model.source), None
    else:
        plan = plans.override_layers(plan, args, sources.layer_names(model))
        plans.check_target(plan, profile)
        record = _record(args, card, model, plan)
    if args.batch != 1:
        model = sources.model_of(args, card, args.batch)
    from tvm_probq.build import artefact
    from tvm_probq.build import compile as building
    from tvm_probq.report.inspection import in_integers

    say(f"compiling {model.source} for {profile.name}", quiet=args.quiet)
    compiled = building.compile_model(model, plan, record, profile, database)
    tuned = sum(bool(layer.tile) for layer in compiled.layers)
    is_random = record is not None and record.data_hash.startswith(samples.RANDOM)
    manifest = artefact.save_artefact(
        compiled,
        plan,
        record,
        profile,
        args.output,
        model_sha256=model.sha256,
        seed=args.seed,
        random_calibration=is_random,
        database=database.identity if tuned and database is not None else "",
    )
    return {
        "artefact": str(args.output),
        "size_bytes": args.output.stat().st_size,
        "mode": manifest.mode,
        "scheme": manifest.scheme,
        "target": profile.name,
        "batch": manifest.batch,
        "calibration_samples": manifest.calibration_samples,
        "random_calibration": is_random,
        "keeps_parameters": model.keeps_parameters,
        "layers": len(manifest.layers),
        "database": manifest.database,
        "tuned_layers": tuned,
        **in_integers(manifest),
        "peak_activation_bytes": manifest.peak_activation_bytes,
        "parameter_bytes": manifest.parameter_bytes,
    }


def show(result: dict[str, Any]) -> str:
    """Say what was written."""
    text = (
        f"{result['artefact']}: {result['mode']} {result['scheme']} for {result['target']}, "
        f"batch {result['batch']}, {result['layers']} layers, {result['tuned_layers']} tuned\n"
        f"file {result['size_bytes']} bytes, parameters {result['parameter_bytes']}, "
        f"activations at most {result['peak_activation_bytes']}"
    )
    from tvm_probq.report.inspection import NOTHING_TO_QUANTIZE, show_integers

    text = "\n".join([text, *show_integers(result)])
    if not result["layers"]:
        text += f"\n{NOTHING_TO_QUANTIZE}"
    if result["keeps_parameters"]:
        text += "\nscales, zero-points and codes of weights are those of the ONNX file"
    if result["random_calibration"]:
        text += "\nrandom calibration: use it for latency alone"
    return text


def _record(
    args: argparse.Namespace, card: Card | None, model: Model, plan: Plan
) -> CalibrationRecord | None:
    """Load or make the calibration record; None where nothing is to be quantized."""
    _check_one_source(args)
    if args.calibration is not None:
        return calibrate.load_record(args.calibration, model)
    if not plan.quantizes:
        return None
    if args.random_calibration is not None:
        count = args.random_calibration
        forms = enumerate(model.inputs)
        source = samples.of_several(
            [samples.of_chance(form, count, args.seed, place=i) for i, form in forms]
        )
    else:
        source = sources.samples_of(args, card, model)
    record = calibrate.new_record(model, source, equalize=args.equalize)
    return calibrate.collect(model, source, record, None, quiet=args.quiet)


def _database(given: str | None, target: str) -> Database | None:
    """Load the tuning database that the options name; None for default loop sizes."""
    if given == NO_DATABASE:
        return None
    from tvm_probq.tuning.database import read_database, shipped_database

    return shipped_database(target) if given is None else read_database(Path(given), target)


def _check_one_source(args: argparse.Namespace) -> None:
    names = ("data", "random_calibration", "calibration")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are given", fix="give only one of them")
