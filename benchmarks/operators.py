"""What becomes of every ONNX operator: ONNX's node tests through import, calibration, compile.

    python benchmarks/operators.py --output docs/operators.md

Minutes of one core.  ``--only NAME`` takes the tests of one operator and prints their verdicts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.bench.threads import use_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tvm_probq.conformance.judge import Verdict

PROFILE = "x86-64"  # its code runs everywhere and gives the bits of every other
PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"


def main() -> None:
    """Judge, and write the page."""
    args = _arguments()
    use_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)  # infinities in ONNX's own tests
    # Imported here: TVM reads the number of threads once.
    from tvm_probq.conformance.document import document
    from tvm_probq.conformance.judge import Outcome

    verdicts = list(_verdicts(args.only, args.jobs))
    wrong = [v for v in verdicts if v.outcome is Outcome.WRONG]
    for v in verdicts if args.only else wrong:
        print(f"{v.case.test} ({v.case.variant}): {v.outcome.value} {v.reason}", flush=True)
    if not args.only:
        args.output.write_text(document(verdicts), encoding="utf-8")
        print(f"{args.output}: {len(verdicts)} cases, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


def _verdicts(only: str | None, jobs: int) -> Iterator[Verdict]:
    from tvm_probq.conformance.cases import node_tests, operator_of

    names = [str(t.name) for t in node_tests() if only in (None, operator_of(t))]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for verdicts in pool.map(_judged, names, chunksize=8):
            yield from verdicts


def _judged(name: str) -> list[Verdict]:
    """The verdicts of one test's variants, in a process of its own."""
    from tvm_probq.conformance.cases import cases
    from tvm_probq.conformance.judge import judge
    from tvm_probq.target.profile import load_profile

    with tempfile.TemporaryDirectory() as folder:
        found = cases(_tests()[name])
        return [judge(case, Path(folder), load_profile(PROFILE)) for case in found]


@cache
def _tests() -> dict[str, Any]:
    from tvm_probq.conformance.cases import node_tests

    return {str(t.name): t for t in node_tests()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (default %(default)s)")
    parser.add_argument("--only", metavar="OPERATOR", help="only this one, and write nothing")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
