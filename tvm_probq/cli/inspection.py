"""``tvm-probq inspect``: what an artefact holds, layer by layer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import options, sources
from tvm_probq.cli.progress import progress
from tvm_probq.data.cards import Card, load_card
from tvm_probq.data.sets import model_inputs

if TYPE_CHECKING:
    from tvm_probq.build.artefact import Artefact

HELP = "show an artefact's layers: bits, ranges, accumulators, memory, instructions"
COVERAGE_SAMPLES = 64
BLOCK = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="what `compile` wrote")
    parser.add_argument(
        "--card",
        type=Path,
        help="also measure, on its evaluation set, which share of values is inside",
    )
    parser.add_argument(
        "--limit",
        type=options.positive,
        default=COVERAGE_SAMPLES,
        metavar="N",
        help="measure on the first N samples (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read the artefact, also one for another machine, and measure coverage if asked."""
    from tvm_probq.build.artefact import load_artefact
    from tvm_probq.report.inspection import inspection

    artefact = load_artefact(args.artefact, to_run=False)
    if args.card is None or artefact.record is None:
        return inspection(artefact.manifest)
    shares = measure(artefact, load_card(args.card), args.limit, quiet=args.quiet)
    return inspection(artefact.manifest, shares)


def show(result: dict[str, Any]) -> str:
    """Lay it out."""
    from tvm_probq.report.inspection import show_inspection

    return show_inspection(result)


def measure(artefact: Artefact, card: Card, limit: int, *, quiet: bool) -> dict[str, float]:
    """Measure the share of each layer's values inside its interval, on a card's evaluation set.

    Raises
    ------
    ArtefactError
        If the card is of another model.
    """
    from tvm_probq.build.compile import in_units, quantized
    from tvm_probq.report.layer_noise import network_noise

    model = sources.model_behind(artefact, card.model, card=card)
    # The plan and the record give the same integer graph again.
    integer = quantized(model, artefact.plan, artefact.record)

    def samples() -> Iterator[Any]:
        for batch in model_inputs(card, "evaluation", BLOCK, limit):
            yield from (batch.x[i : i + 1] for i in range(len(batch.x)))

    taken = progress(samples(), limit, "measuring", quiet=quiet)
    layers = network_noise(in_units(model, artefact.record), integer, taken).layers
    return {n: noise.coverage for n, noise in layers.items() if noise.coverage is not None}
