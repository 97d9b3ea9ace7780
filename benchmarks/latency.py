"""Latency on one thread: static, dynamic, predicted and float against ONNX Runtime.

    python benchmarks/latency.py path/to/card.toml path/to/model.onnx --surrogate-share

This is ``tvm-probq bench`` on several models, its figures as Markdown tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tvm_probq.cli import bench
from tvm_probq.cli.main import make_parser
from tvm_probq.errors import ProbqError
from tvm_probq.report.json_text import write_json

MODES = "float,static,dynamic,predicted"
PEERS = "ort-fp32,ort-int8,ort-dynamic"
HEADERS = ("", "CPU ms", "wall ms", "times predicted", "peak activation bytes", "parameter bytes")


def main() -> None:
    """Measure and print."""
    args = _arguments()
    try:
        results = [measure(path, args) for path in args.models]
        if args.json is not None:
            write_json(args.json, {"models": results})
    except ProbqError as error:
        raise SystemExit(f"error: {error}") from None
    facts = results[-1]["machine"].items()
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts))


def measure(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one model and print its table."""
    options = ["--modes", MODES, "--against", "none" if args.no_peers else PEERS]
    for name in ("turns", "samples", "scheme", "target", "cache"):
        value = getattr(args, name)
        options += [] if value is None else [f"--{name}", str(value)]
    if args.surrogate_share:
        options.append("--surrogate-share")
    result = bench.run(make_parser().parse_args(["bench", str(path), *options]))
    print(f"\n### {path.stem}, {result['scheme']}, {result['target']}\n\n{_table(result)}")
    if args.surrogate_share:
        from tvm_probq.bench.share import show_share

        print(f"\n{show_share(result['surrogate_share'])}")
    return result


def _table(result: dict[str, Any]) -> str:
    rows = []
    for name, row in {**result["modes"], **result["peers"]}.items():
        sizes = (row.get("peak_activation_bytes"), row.get("parameter_bytes"))
        figures = [f"{row['process_cpu_ms']:.3f}", f"{row['wall_ms']:.3f}"]
        figures.append(f"{row['ms'] / result['ours_ms']:.2f}")
        figures += ["" if size is None else f"{size:,}".replace(",", " ") for size in sizes]
        rows.append([name, *figures])
    return markdown(HEADERS, rows)


def markdown(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay out a Markdown table; all columns but the first are aligned to the right."""
    titles = list(headers)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="cards (.toml) or ONNX files")
    for name in ("turns", "samples", "scheme", "target", "cache"):
        parser.add_argument(f"--{name}", help=f"see `tvm-probq bench --help`, --{name}")
    parser.add_argument("--no-peers", action="store_true", help="only this project's modes")
    parser.add_argument(
        "--surrogate-share", action="store_true", help="also what the prediction costs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
