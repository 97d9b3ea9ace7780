"""``tvm-probq demo``: the whole path on the bundled digits network."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from tvm_probq.cli.progress import say

HELP = "quantize, compile and compare the bundled digits network in every mode"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare the options: none of its own."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the demo."""
    from tvm_probq.demo.run import run_demo

    return run_demo(partial(say, quiet=args.quiet))


def show(result: dict[str, Any]) -> str:
    """Give the comparison table."""
    from tvm_probq.demo.run import show_demo

    return show_demo(result)
