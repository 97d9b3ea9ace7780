"""``tvm-probq deploy``: try an artefact on a board, from the checks to its latency."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_probq.cli import options, samples
from tvm_probq.cli.board import described, laid_out
from tvm_probq.cli.progress import say
from tvm_probq.cli.run import read_inputs

if TYPE_CHECKING:
    from tvm_probq.board.runner import RemoteRunner
    from tvm_probq.build.artefact import Artefact
    from tvm_probq.runtime.batching import Arrays

HELP = "check that an artefact fits a board, run it there once, and time it; leaves nothing behind"
RUNS = 20
# Of the time-out, spent on timing at most.
TIMING_SHARE = 0.5
MS_PER_S = 1000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="what `compile` wrote")
    options.add_board(parser, required=True)
    parser.add_argument(
        "--input",
        type=Path,
        metavar="X",
        help="samples to run: .npy, or .npz by input name (default: random ones)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (default 0)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Check, upload, run and time."""
    address = options.board_of(args)
    if address is None:
        raise ValueError("argparse requires a board")
    from tvm_probq.board.runner import RemoteRunner
    from tvm_probq.build.artefact import load_artefact

    artefact = load_artefact(args.artefact, to_run=False)
    inputs = random_inputs(artefact, args.seed) if args.input is None else read_inputs(args.input)
    say(f"connecting to {address}", quiet=args.quiet)
    with RemoteRunner(artefact, address, args.timeout) as model:
        begin = time.monotonic()
        outputs = model.run(inputs)
        taken_s = time.monotonic() - begin
        latency = timed(model, inputs, taken_s, args.timeout)
        facts = model.facts.to_json()
    return {
        "artefact": str(args.artefact),
        "target": artefact.manifest.target.name,
        "batch": artefact.manifest.batch,
        "board": {"address": str(address), **facts},
        "library_bytes": len(artefact.library),
        "input": "random" if args.input is None else str(args.input),
        "outputs": [
            {"name": name, "shape": list(y.shape), "dtype": str(y.dtype)}
            for (name, _, _), y in zip(artefact.manifest.outputs, outputs, strict=True)
        ],
        "latency_ms": latency,
    }


def show(result: dict[str, Any]) -> str:
    """Lay all out, one row a fact."""
    board, latency = result["board"], result["latency_ms"]
    outputs = ", ".join(f"{y['name']} {y['dtype']} {y['shape']}" for y in result["outputs"])
    return laid_out(
        {
            "artefact": f"{result['artefact']} for {result['target']}, batch {result['batch']}",
            "board": f"{board['address']} ({board['name']})",
            **described(board),
            "uploaded": f"{result['library_bytes']} bytes, removed again",
            "outputs": f"{outputs}, from {result['input']} input",
            "latency": f"median {latency['median']:.4g} ms, fastest {latency['fastest']:.4g} ms, "
            f"of {latency['runs']} runs on the board's clock",
        }
    )


def random_inputs(artefact: Artefact, seed: int) -> Arrays:
    """Give one batch of random inputs.

    Raises
    ------
    UnsupportedError
        If an input takes no floating-point numbers.
    """
    return {
        form[0]: next(iter(samples.of_chance(form, 1, seed, place=place).stream()))
        for place, form in enumerate(artefact.manifest.inputs)
    }


def timed(model: RemoteRunner, inputs: Any, taken_s: float, timeout_s: float) -> dict[str, Any]:
    """Time the first batch of inputs that have been run in a known time."""
    from tvm_probq.runtime.batching import by_name

    arrays = by_name(inputs, model.inputs)
    if model.counts:
        rows = np.arange(model.batch)
        arrays = {name: array[rows % len(array)] for name, array in arrays.items()}
    runs = int(min(RUNS, max(1.0, TIMING_SHARE * timeout_s / taken_s)))
    times = [MS_PER_S * seconds for seconds in model.latency_s(arrays, runs)]
    return {"median": statistics.median(times), "fastest": min(times), "runs": runs}
