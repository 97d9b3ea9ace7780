"""``tvm-probq debug``: which layer loses the accuracy, and what would help."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import options, samples, sources
from tvm_probq.cli.progress import progress
from tvm_probq.data.cards import Card
from tvm_probq.data.corrupt import Corruption, parse_corruption
from tvm_probq.data.sets import Split, model_inputs
from tvm_probq.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from tvm_probq.build.artefact import Artefact
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.report.culprits import Subject
    from tvm_probq.report.layer_noise import LayerNoise

HELP = "show which layers lose accuracy against float, worst first, and which options help"
SAMPLES = 16
# Of the outputs, for an option to be worth its while.
GAIN_DB = 0.5
WORST = 3
BLOCK = 8
AS_IT_IS = "as it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="what `compile` wrote")
    parser.add_argument("--card", type=Path, help="a model card: its evaluation set is measured")
    parser.add_argument("--model", type=Path, metavar="ONNX", help="the model, if no card names it")
    options.add_shape(parser)
    parser.add_argument("--data", type=Path, metavar="NPZ", help="ready inputs by input name")
    parser.add_argument(
        "--limit", type=options.positive, default=SAMPLES, metavar="N",
        help="measure on the first N samples (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--corrupt", action="append", default=[], metavar="KIND:SEVERITY",
        help="measure on shifted images too, such as contrast:3; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--layers-alone", action=argparse.BooleanOptionalAction, default=True,
        help="quantize each layer alone and rank by the noise that leaves at the outputs "
        "(default; a run of the network for each)",
    )  # fmt: skip
    parser.add_argument(
        "--suggest", action="store_true",
        help="try options of `calibrate` and `compile` on the calibration data",
    )  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    card = sources.card_of(args)
    shifts = [parse_corruption(text) for text in args.corrupt]
    if shifts and (card is None or args.data is not None):
        raise UsageError("--corrupt needs a card's images", fix="give --card CARD, or leave it out")
    from tvm_probq.build.artefact import load_artefact
    from tvm_probq.build.compile import in_units, quantized
    from tvm_probq.report import culprits
    from tvm_probq.report.layer_noise import network_noise
    from tvm_probq.report.predicted_bits import mean_bits

    artefact = load_artefact(args.artefact, to_run=False)
    subject = _subject(args, artefact, card)
    exact = in_units(subject.model, subject.record)
    integer = quantized(subject.model, subject.plan, subject.record)
    measured = {}
    for shift in (None, *shifts):
        label = "" if shift is None else f" on {shift}"
        stream = _samples(args, card, subject.model, "evaluation", shift)
        taken = progress(stream, args.limit, f"measuring{label}", quiet=args.quiet)
        measured["clean" if shift is None else str(shift)] = network_noise(exact, integer, taken)
    clean = measured["clean"]
    bits = {layer.name: layer.bits for layer in artefact.manifest.layers}
    layers = {n: {**_row(n, subject, measured), "bits": bits.get(n, "")} for n in clean.layers}
    if args.layers_alone:
        names = [n for n in sources.layer_names(subject.model) if n in layers]
        names = [n for n in names if subject.plan.layer(n).mode != "float"]
        few = list(_samples(args, card, subject.model, "evaluation", None))
        found = culprits.alone(subject, names, few)
        for name, db in progress(found, len(names), "layers alone", quiet=args.quiet):
            layers[name]["alone_db"] = db
    worst = sorted(layers.values(), key=_badness)
    return {
        "artefact": str(args.artefact),
        "mode": artefact.manifest.mode,
        "scheme": artefact.manifest.scheme,
        "samples": clean.samples,
        "sqnr_db": {shift: noise.outputs.ratio_db() for shift, noise in measured.items()},
        "mean_bits": {
            shift: mean_bits(noise for name, noise in found.layers.items() if layers[name]["bits"])
            for shift, found in measured.items()
        },
        "layers": worst,
        "tried": _tried(args, card, subject, worst) if args.suggest else None,
    }


def show(result: dict[str, Any]) -> str:
    """Lay out the layers, worst first, and what was tried."""
    from tvm_probq.report.predicted_bits import show_picks
    from tvm_probq.report.tables import Cell, table

    shifts = list(result["sqnr_db"])
    several = len(shifts) > 1
    what = f"{result['mode']} {result['scheme']}"
    lines = [f"{result['artefact']} ({what}) against float, {result['samples']} samples"]
    lines += [f"outputs{_of(s, several)}: {_db(db)}" for s, db in result["sqnr_db"].items()]
    alone = any(row["alone_db"] is not None for row in result["layers"])
    headers = ["layer", "bits w/a", "mode", *(["outputs, alone"] if alone else [])]
    for shift in shifts:
        headers += [f"{name}{_of(shift, several)}" for name in ("sqnr", "storing", "inside")]
    rows: list[list[Cell]] = []
    for row in result["layers"]:
        cells: list[Cell] = [row["name"], f"{row['weight_bits']}/{row['activation_bits']}"]
        cells += [row["mode"], *([_db(row["alone_db"])] if alone else [])]
        for shift in shifts:
            found = row["measured"][shift]
            share = found["coverage"]
            cells += [_db(found["sqnr_db"]), _db(found["storing_db"])]
            cells.append("-" if share is None else f"{100 * share:.2f} %")
        rows.append(cells)
    lines += ["", table(headers, rows)]
    if any(row["bits"] for row in result["layers"]):
        lines += ["", *show_picks(result["layers"], result["mean_bits"])]
    if result["tried"] is not None:
        lines += ["", *_show_tried(result["tried"])]
    return "\n".join(lines)


def _subject(args: argparse.Namespace, artefact: Artefact, card: Card | None) -> Subject:
    """Load the model of an artefact, with the artefact's plan and record."""
    from tvm_probq.report.culprits import Subject

    if artefact.record is None:
        raise ArtefactError(
            "the artefact has no calibration", where=str(artefact.path),
            why="it is a float model, or keeps the parameters of its file",
            fix="compile it in another mode than float, or with --requantize",
        )  # fmt: skip
    if args.model is None and card is None:
        raise UsageError("no model is given", fix="give --card CARD or --model ONNX")
    path = card.model if args.model is None and card is not None else args.model
    model = sources.model_behind(artefact, path, args.shape, card)
    return Subject(model, artefact.plan, artefact.record)


def _samples(
    args: argparse.Namespace,
    card: Card | None,
    model: Model,
    split: Split,
    shift: Corruption | None,
) -> Iterator[Any]:
    """Give the first samples of the data, of one call each."""
    if args.data is not None:
        yield from samples.of_inputs(args.data, model.inputs, args.limit).stream()
    elif card is None:
        raise UsageError("no data is given", fix="give --card CARD or --data NPZ")
    else:
        for batch in model_inputs(card, split, BLOCK, args.limit, shift):
            yield from (batch.x[i : i + 1] for i in range(len(batch.x)))


def _row(name: str, subject: Subject, measured: Mapping[str, Any]) -> dict[str, Any]:
    plan = subject.plan.layer(name)
    return {
        "name": name,
        "weight_bits": plan.weight_bits if plan.mode != "float" else 32,
        "activation_bits": plan.activation_bits if plan.mode != "float" else 32,
        "mode": plan.mode,
        "alone_db": None,
        "measured": {shift: _figures(noise.layers[name]) for shift, noise in measured.items()},
    }


def _figures(noise: LayerNoise) -> dict[str, Any]:
    from tvm_probq.report.predicted_bits import picks_to_json

    return {
        **picks_to_json(noise),
        "sqnr_db": noise.total.ratio_db(),
        "storing_db": noise.own.ratio_db() if noise.values else None,
        "coverage": noise.coverage,
    }


def _badness(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Layers that were quantized alone come first, the noisiest before all."""
    if row["alone_db"] is not None:
        return False, row["alone_db"]
    sqnr = row["measured"]["clean"]["sqnr_db"]
    return True, -math.inf if math.isnan(sqnr) else sqnr


def _tried(
    args: argparse.Namespace, card: Card | None, subject: Subject, worst: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Try options on calibration data: the signal-to-noise of the outputs with each, in dB."""
    from dataclasses import replace

    from tvm_probq.report import culprits

    data = list(_samples(args, card, subject.model, "calibration", None))
    tries = {AS_IT_IS: subject}
    tries |= {o: replace(subject, plan=p) for o, p in culprits.options_to_try(subject.plan).items()}
    layers = [row for row in worst if row["mode"] != "float" and row["alone_db"] is not None]
    for row in layers[:WORST]:
        name = row["name"]
        tries[f"--skip {name}"] = replace(subject, plan=subject.plan.override([name], mode="float"))
        if row["weight_bits"] < 8 or row["activation_bits"] < 8:
            eight = {"weight_bits": 8, "weight_group": 0, "activation_bits": 8}
            wider = subject.plan.override([name], **eight)
            tries[f"--scheme {name}=w8a8"] = replace(subject, plan=wider)
    record = _otherwise_equalized(args, card, subject)
    if record is not None:
        option = "--no-equalize" if subject.record.equalize else "without --no-equalize"
        tries[option] = replace(subject, record=record)
    found = progress(tries.items(), len(tries), "trying", quiet=args.quiet)
    reached = {option: changed.noise(data).ratio_db() for option, changed in found}
    start = reached[AS_IT_IS]
    order = sorted(reached, key=lambda option: (option != AS_IT_IS, -reached[option]))
    return [
        {
            "option": o,
            "sqnr_db": reached[o],
            "gain_db": reached[o] - start if reached[o] != start else 0.0,
        }
        for o in order
    ]


def _otherwise_equalized(args: argparse.Namespace, card: Card | None, subject: Subject) -> Any:
    """A new record with equalization switched; None where it makes no difference."""
    from tvm_probq.calibration.collect import collect
    from tvm_probq.calibration.equalization import equalized_tensors
    from tvm_probq.calibration.record import CalibrationRecord

    if not equalized_tensors(subject.model.mod):
        return None
    old = subject.record
    record = CalibrationRecord(old.model_hash, old.data_hash, equalize=not old.equalize)
    count = old.samples
    wider = argparse.Namespace(**{**vars(args), "limit": count})
    stream = islice(_samples(wider, card, subject.model, "calibration", None), count)
    taken = progress(stream, count, "calibrating", quiet=args.quiet)
    return collect(subject.model.mod, taken, record, None)


def _show_tried(tried: list[dict[str, Any]]) -> list[str]:
    from tvm_probq.report.tables import table

    rows = [[row["option"], _db(row["sqnr_db"]), f"{row['gain_db']:+.2f}"] for row in tried]
    helpful = [row["option"] for row in tried if row["gain_db"] >= GAIN_DB]
    said = f"worth trying: {'; '.join(helpful)}" if helpful else f"no option gains {GAIN_DB} dB"
    return [table(["option", "outputs", "gain"], rows), "", said]


def _of(shift: str, several: bool) -> str:
    return f", {shift}" if several else ""


def _db(value: float | None) -> str:
    if value is None:
        return "-"
    return "equal" if value == math.inf else f"{value:.1f} dB"
