"""``tvm-probq inspect``: what an artefact holds, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "show an artefact's layers: bits, ranges, accumulators, memory, instructions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="what `compile` wrote")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read the artefact, also one for another machine."""
    from tvm_probq.build.artefact import load_artefact
    from tvm_probq.report.inspection import inspection

    return inspection(load_artefact(args.artefact, to_run=False).manifest)


def show(result: dict[str, Any]) -> str:
    """Lay it out."""
    from tvm_probq.report.inspection import show_inspection

    return show_inspection(result)
