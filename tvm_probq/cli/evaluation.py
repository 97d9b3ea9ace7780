"""``tvm-probq eval``: accuracy of an artefact or of a float ONNX model."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_probq.cli import options, runners, sources
from tvm_probq.cli.progress import progress
from tvm_probq.data.cards import Card, load_card
from tvm_probq.data.corrupt import parse_corruption
from tvm_probq.data.sets import model_inputs, open_set
from tvm_probq.data.tasks import task_of
from tvm_probq.errors import UsageError
from tvm_probq.report.accuracy import Predict

HELP = "measure the accuracy of an artefact or a float ONNX model on a card's evaluation set"
# Samples read at a time; a multiple of usual batches.
BLOCK = 24
FLOAT_BATCH = 8


@dataclass(frozen=True)
class Subject:
    """What is evaluated."""

    predict: Predict
    mode: str
    scheme: str
    batch: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("subject", type=Path, metavar="ARTEFACT_or_MODEL")
    parser.add_argument("--card", type=Path, required=True, help="a model card (TOML)")
    parser.add_argument("--limit", type=options.positive, metavar="N", help="only the first N")
    parser.add_argument(
        "--corrupt", metavar="KIND:SEVERITY", help="shift the inputs, such as contrast:3"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="MODEL", help="also compare with this float ONNX model"
    )
    options.add_shape(parser)
    options.add_requantize(parser)
    options.add_board(parser)
    parser.add_argument(
        "--batch",
        type=options.positive,
        metavar="N",
        help=f"samples a step of a float model (default {FLOAT_BATCH}, or the one that the model "
        "fixes); an artefact has its own",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate."""
    card = load_card(args.card)
    task = task_of(card)
    corruption = None if args.corrupt is None else parse_corruption(args.corrupt)
    with contextlib.ExitStack() as stack:
        subject = open_subject(args, card, stack)
        reference = None if args.reference is None else open_float(args.reference, args, card)
        batches = progress(
            model_inputs(card, "evaluation", BLOCK, args.limit, corruption),
            _count(card, args.limit),
            "evaluating",
            quiet=args.quiet,
            size=lambda batch: len(batch.x),
        )
        from tvm_probq.report.accuracy import evaluate

        exact = None if reference is None else reference.predict
        scores = evaluate(batches, subject.predict, exact, task)
    return {
        **scores.to_json(),
        "mode": subject.mode,
        "scheme": subject.scheme,
        "batch": subject.batch,
        "corruption": args.corrupt,
        "card": card.name,
        "subject": str(args.subject),
    }


def show(result: dict[str, Any]) -> str:
    """Give the scores, one a line."""
    shift = f", {result['corruption']}" if result["corruption"] else ""
    what = " ".join(part for part in (result["mode"], result["scheme"]) if part)
    lines = [f"{result['subject']} ({what}) on {result['card']}, {result['count']} samples{shift}"]
    rows = {result["metric"]: f"{100 * result['value']:.2f} %"}
    if "sqnr_db" in result:
        noise = "NaN" if result["sqnr_db"] is None else f"{result['sqnr_db']:.2f} dB"
        rows["reference"] = f"{100 * result['reference_value']:.2f} %"
        rows |= {"sqnr": noise, "agreement": f"{100 * result['agreement']:.2f} %"}
    if "perplexity" in result:
        rows["perplexity"] = f"{result['perplexity']:.4g}"
        if "reference_perplexity" in result:
            rows["perplexity"] += f", of the reference {result['reference_perplexity']:.4g}"
    width = max(map(len, rows))
    return "\n".join([*lines, *(f"{name:{width}}  {value}" for name, value in rows.items())])


def open_subject(args: argparse.Namespace, card: Card, stack: contextlib.ExitStack) -> Subject:
    """Open an artefact or an ONNX model, told apart by how the file begins, until `stack` ends."""
    path = args.subject
    from tvm_probq.build.archive import is_archive

    if not is_archive(path) and path.suffix != ".probq":
        if options.board_of(args) is not None:
            raise UsageError(
                "boards run artefacts only",
                where=str(path),
                fix="compile the model for the board: `tvm-probq compile --target ...`",
            )
        return open_float(path, args, card)
    artefact = runners.load(path, args)
    manifest = artefact.manifest
    model = stack.enter_context(runners.open_runner(artefact, args))
    return Subject(model.run, manifest.mode, manifest.scheme, manifest.batch)


def open_float(path: Path, args: argparse.Namespace, card: Card) -> Subject:
    """Open an ONNX model, which may be quantized already."""
    from tvm_probq.frontend.read import read_onnx
    from tvm_probq.frontend.shapes import fixed_batch
    from tvm_probq.runtime.float_model import FloatModel

    batch = args.batch or fixed_batch(read_onnx(path)) or FLOAT_BATCH
    loaded = sources.load(path, batch, args.shape, card, requantize=args.requantize)
    model = FloatModel(loaded)
    said = ("static", "from the file") if loaded.keeps_parameters else ("float", "")
    return Subject(model.run, *said, model.batch)


def _count(card: Card, limit: int | None) -> int:
    count = open_set(card.evaluation).count
    return count if limit is None else min(limit, count)
