"""ONNX's node tests of common operators, and the page that lists what becomes of all of them."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.conformance.cases import cases, node_tests, operator_of
from tvm_probq.conformance.document import best, document
from tvm_probq.conformance.judge import Outcome, Verdict, judge
from tvm_probq.target.profile import load_profile

# One test an operator: integers, codes that move, float islands, and what is not taken.
TESTS = {
    "test_basic_conv_with_padding": Outcome.INTEGER,
    "test_conv_with_strides_and_asymmetric_padding": Outcome.INTEGER,
    "test_gemm_all_attributes": Outcome.INTEGER,
    "test_matmul_2d": Outcome.INTEGER,
    "test_globalaveragepool": Outcome.INTEGER,
    "test_concat_2d_axis_1": Outcome.INTEGER,
    "test_maxpool_2d_default": Outcome.MOVES_CODES,
    "test_identity": Outcome.MOVES_CODES,
    "test_slice": Outcome.FLOAT,
    "test_softmax_axis_1": Outcome.FLOAT,
    "test_averagepool_2d_pads": Outcome.MOVES_CODES,
    "test_convtranspose": Outcome.INTEGER,
    "test_lstm_defaults": Outcome.INTEGER,
    "test_batchnorm_epsilon": Outcome.FLOAT,
    "test_gather_1": Outcome.MOVES_CODES,
    "test_scatternd": Outcome.FLOAT,
    "test_hardsigmoid_example": Outcome.FLOAT,
    "test_reduce_max_bool_inputs": Outcome.NOT_COMPILED,
    "test_layer_normalization_2d_axis0": Outcome.FLOAT,
    "test_training_dropout": Outcome.OTHER_VALUES,
    "test_add_uint8": Outcome.REFUSED,
    "test_nonzero_example": Outcome.REFUSED,
    "test_det_2d": Outcome.NOT_IMPORTED,
}
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \|((?: \d* \|){8}) .*\|$", re.MULTILINE)


@cache
def by_name() -> dict[str, Any]:
    """ONNX's tests by name."""
    return {str(t.name): t for t in node_tests()}


@pytest.mark.parametrize("name", TESTS)
def test_an_operator(name: str, tmp_path: Path) -> None:
    profile = load_profile("x86-64")
    verdicts = [judge(case, tmp_path, profile) for case in cases(by_name()[name])]
    wrong = [(v.case.variant, v.reason) for v in verdicts if v.outcome is Outcome.WRONG]
    assert wrong == []
    counted = best(verdicts)
    assert (counted.outcome, counted.reason) == (TESTS[name], counted.reason)
    if counted.outcome not in (Outcome.INTEGER, Outcome.MOVES_CODES):
        assert counted.reason


def test_variants_put_constants_and_a_layer_around_a_node() -> None:
    found = {case.variant: case for case in cases(by_name()["test_basic_conv_with_padding"])}
    assert list(found) == ["given", "constants", "layer"]
    assert [len(case.inputs) for case in found.values()] == [2, 1, 1]
    assert [case.outputs[0].shape for case in found.values()] == [(1, 1, 5, 5)] * 2 + [(1, 4)]


def test_the_page_is_of_all_operators(repository: Path) -> None:
    rows = ROW.findall((repository / "docs" / "operators.md").read_text(encoding="utf-8"))
    wanted = Counter(operator_of(t) for t in by_name().values())
    assert {name: int(count) for name, count, _ in rows} == wanted
    for name, count, cells in rows:
        counts = [int(cell) if cell.strip() else 0 for cell in cells.split("|")[:-1]]
        assert sum(counts) == int(count), name
        assert counts[list(Outcome).index(Outcome.WRONG)] == 0, name


def test_the_page_from_verdicts() -> None:
    (given, constants, layer) = cases(by_name()["test_basic_conv_with_padding"])
    verdicts = [
        Verdict(given, Outcome.FLOAT, "weights | vary"),
        Verdict(constants, Outcome.INTEGER),
        Verdict(layer, Outcome.REFUSED, "no"),
    ]
    assert "| `Conv` | 1 | 1 |  |" in document(verdicts)
    assert "| `Conv` | 1 |  |  | 1 |" in document(verdicts[:1])
    assert "weights / vary" in document(verdicts[:1])
    wrong = Verdict(given, Outcome.WRONG, "far")
    assert best([*verdicts, wrong]) is wrong
