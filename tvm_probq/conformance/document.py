"""The table of operators, ``docs/operators.md``, from verdicts."""

from collections import Counter
from collections.abc import Iterable
from importlib import metadata

from tvm_probq.conformance.judge import Outcome, Verdict

COLUMNS = tuple(Outcome)
MAX_REASONS = 3
MAX_LENGTH = 120
HEAD = """# Operators

What becomes of each ONNX operator, found by ONNX's own node tests (onnx {onnx}, TVM {tvm}): \
every test of one node goes through import, calibration on its inputs and variations of them, and \
compilation with 8 bits in predicted mode, and the result is compared with what ONNX expects. \
`python benchmarks/operators.py` makes this page.

Each test runs as it is, again with all inputs but the first as constants (only constant weights \
make integer layers), and again with a fully connected layer behind it, so that its output must be \
stored in 8 bits. The best outcome counts, unless one is wrong.

- **integer**: computed on codes; within four steps of 8 bits.
- **moves codes**: only moves values, so codes pass through.
- **float**: TVM's float code, between a dequantize and a quantize where integer layers surround it.
- **other values**: TVM's importer or float code gives other values than ONNX expects, with or \
without this project; random operators are among them.
- **not compiled**: TVM imports the operator and cannot compile it.
- **refused**: an error of ours says what is not supported: element types above all, and shapes \
that depend on values.
- **not imported**: TVM's importer refuses the operator, or this use of it.
- **wrong**: a fault of ours.

"""


def document(verdicts: Iterable[Verdict]) -> str:
    """The page in Markdown."""
    by_test: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        key = verdict.case.operator, verdict.case.test
        by_test.setdefault(key, []).append(verdict)
    of_operator: dict[str, list[Verdict]] = {}
    for (operator, _), found in sorted(by_test.items()):
        of_operator.setdefault(operator, []).append(best(found))
    rows = [_row(operator, found) for operator, found in sorted(of_operator.items())]
    total = Counter(v.outcome for found in of_operator.values() for v in found)
    head = HEAD.format(onnx=metadata.version("onnx"), tvm=metadata.version("apache-tvm"))
    names = ["operator", "tests", *(o.value for o in COLUMNS), "why"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|", *rows]
    counted = ", ".join(f"{total[o]} {o.value}" for o in COLUMNS)
    return f"{head}{sum(total.values())} tests of {len(rows)} operators: {counted}.\n\n" + (
        "\n".join(lines) + "\n"
    )


def best(verdicts: list[Verdict]) -> Verdict:
    """The verdict that counts among those of a test's variants."""
    wrong = [v for v in verdicts if v.outcome is Outcome.WRONG]
    return (wrong or sorted(verdicts, key=lambda v: COLUMNS.index(v.outcome)))[0]


def _row(operator: str, verdicts: list[Verdict]) -> str:
    counts = Counter(v.outcome for v in verdicts)
    reasons = Counter(_plain(v.reason) for v in verdicts if v.reason)
    said = [reason for reason, _ in reasons.most_common(MAX_REASONS)]
    said += [f"and {len(reasons) - MAX_REASONS} more"] if len(reasons) > MAX_REASONS else []
    cells = [f"`{operator}`", str(len(verdicts)), *(str(counts[o] or "") for o in COLUMNS)]
    return "| " + " | ".join([*cells, "; ".join(said)]) + " |"


def _plain(reason: str) -> str:
    """One short line that Markdown's tables can hold."""
    line = " ".join(reason.replace("|", "/").split())
    return line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]}..."
