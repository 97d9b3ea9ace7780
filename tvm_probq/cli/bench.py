"""``tvm-probq bench``: latency of an artefact or a model beside other runtimes."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.bench import peers
from tvm_probq.bench.machine import machine
from tvm_probq.bench.threads import use_threads
from tvm_probq.bench.timing import RARE
from tvm_probq.cli import bench_subject, options
from tvm_probq.cli.progress import say
from tvm_probq.errors import UsageError

if TYPE_CHECKING:
    from tvm_probq.bench.session import Request, Subject

HELP = "time an artefact, or a model in several modes, beside other runtimes"
TURNS = 200
RANDOM_NOTE = "calibrated on RANDOM inputs: only latency means anything"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "subject",
        type=Path,
        metavar="SUBJECT",
        help="an artefact; or an ONNX file or a card (.toml), which is compiled in each mode",
    )
    bench_subject.add_source(parser)
    parser.add_argument(
        "--against",
        type=names,
        metavar="PEERS",
        help=f"any of {','.join(peers.PEERS)}, or none (default: all that are installed)",
    )
    parser.add_argument("--threads", type=options.positive, default=1, help="default %(default)s")
    parser.add_argument(
        "--turns", type=options.positive, default=TURNS, metavar="N", help="default %(default)s"
    )
    parser.add_argument("--layers", action="store_true", help="also time each layer")
    parser.add_argument(
        "--memory", action="store_true", help="also the peak memory of ours and of ort-int8"
    )
    parser.add_argument(
        "--surrogate-share", action="store_true", help="also what the prediction costs"
    )
    parser.add_argument(
        "--tune-float",
        type=int,
        default=0,
        metavar="TRIALS",
        help="tune the peer tvm-fp32 by MetaSchedule, so many trials in all (default: no tuning)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep prepared peers (default: do not)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (default 0)")
    options.add_board(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepare and measure."""
    if options.board_of(args) is not None:
        return _on_board(args)
    chosen, left_out = peers.choose(args.against)
    # TVM takes the number of threads from the environment, when it is imported.
    cpus = use_threads(args.threads)
    bench_subject.check_options(args)
    from tvm_probq.bench.session import measure

    subject, facts = bench_subject.open_subject(args)
    if subject.model is None:
        chosen, left_out = _without_model(args, chosen, left_out)
    request = _request(args, subject, chosen)
    with cache_folder(args.cache) as folder:
        result = measure(subject, request, folder, lambda text: say(text, quiet=args.quiet))
    return {
        **facts,
        "threads": args.threads,
        "turns": args.turns,
        **result,
        "left_out": left_out,
        "machine": {**machine(), "cpus_available": cpus},
    }


def _on_board(args: argparse.Namespace) -> dict[str, Any]:
    """Measure on a board; peers cannot be there."""
    from tvm_probq.bench.board import PEERS_WHY, measure_on_board

    board = options.board_of(args)
    if board is None:
        raise ValueError("there is no board")
    bench_subject.check_options(args)
    subject, facts = bench_subject.open_subject(args)
    result = measure_on_board(
        subject.ours, subject.x, board, args.turns, args.threads, args.timeout,
        lambda text: say(text, quiet=args.quiet),
    )  # fmt: skip
    left_out = dict.fromkeys(peers.PEERS, PEERS_WHY)
    return {
        **facts, "threads": args.threads, "turns": args.turns, **result, "left_out": left_out,
    }  # fmt: skip


def show(result: dict[str, Any]) -> str:
    """Lay all tables out."""
    from tvm_probq.bench.board import show_board
    from tvm_probq.bench.layers import show_layers
    from tvm_probq.bench.result import show_latency, show_memory
    from tvm_probq.bench.share import show_share

    threads = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    title = (
        f"{result['subject']}: {result['scheme']} for {result['target']}, batch {result['batch']}, "
        f"{threads}, {result['turns']} turns"
    )
    parts = [title + _random_note(result)]
    if "board" in result:
        return "\n\n".join([*parts, show_board(result), "\n".join(_sizes(result))])
    parts.append(show_latency(result))
    parts.append("\n".join(_sizes(result)))
    if "surrogate_share" in result:
        parts.append(show_share(result["surrogate_share"]))
    if "layers" in result:
        parts.append(show_layers(result["layers"], result["ours_ms"]))
    if "memory" in result:
        parts.append(show_memory(result["memory"]))
    parts.append(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    return "\n\n".join(parts)


def names(text: str) -> tuple[str, ...]:
    """Read ``ort-int8,openvino-int8``, or ``none``."""
    return () if text == peers.NONE else tuple(part.strip() for part in text.split(","))


@contextlib.contextmanager
def cache_folder(given: Path | None) -> Iterator[Path]:
    """Give the folder that is to be kept, or a temporary one."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="tvm-probq-bench-") as folder:
        yield Path(folder)


def _request(args: argparse.Namespace, subject: Subject, chosen: tuple[str, ...]) -> Request:
    from tvm_probq.bench.session import Request

    if args.surrogate_share and not {"static", "predicted"} <= set(subject.ours):
        raise UsageError(
            "the surrogate's share is a comparison of the modes static and predicted",
            where="--surrogate-share",
            fix="give an ONNX model or a card, with --modes static,predicted at least",
        )
    if "float" in subject.ours and args.turns < RARE:
        raise UsageError(
            f"{args.turns} turns are too few for the mode float",
            where="--turns",
            why=f"it takes part in every {RARE}th turn",
            fix=f"ask for at least {RARE}",
        )
    return Request(
        args.threads, args.turns, chosen, args.layers, args.memory, args.surrogate_share,
        args.tune_float,
    )  # fmt: skip


def _without_model(
    args: argparse.Namespace, chosen: tuple[str, ...], left_out: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out the peers, which need the float model; complain if they are asked for."""
    asked = [*(args.against or ()), *(["--layers"] if args.layers else [])]
    fix = "name the float model by --card CARD or --model ONNX"
    if asked:
        raise UsageError(f"{asked[0]} needs the float model", where=str(args.subject), fix=fix)
    return (), {**left_out, **dict.fromkeys(chosen, f"no float model is given: {fix}")}


def _random_note(result: dict[str, Any]) -> str:
    """Say which of ours and of the peers are calibrated on random inputs."""
    whose = ["ours"] if result["random_calibration"] else []
    whose += ["the peers"] if result["random_inputs"] and result["peers"] else []
    return f"\n{' and '.join(whose)} {RANDOM_NOTE}" if whose else ""


def _sizes(result: dict[str, Any]) -> list[str]:
    return [
        f"{mode}: activations at most {row['peak_activation_bytes']} bytes, "
        f"parameters {row['parameter_bytes']}"
        for mode, row in result["modes"].items()
    ]
