"""Planning from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import load_split
from tvm_probq.errors import PlanError
from tvm_probq.frontend.onnx import Model
from tvm_probq.latency.roofline import Roofline
from tvm_probq.plan.plan import plan_of
from tvm_probq.planning.budget import Budget
from tvm_probq.planning.options import options_of
from tvm_probq.planning.search import Wish, find_plan
from tvm_probq.planning.subject import Subject, subject_of
from tvm_probq.planning.table import SensitivityTable
from tvm_probq.target.profile import load_profile

OPTIONS = options_of(["w4a8:correction=static", "float"])


@pytest.fixture(scope="module")
def subject(model: Model, record: CalibrationRecord) -> Subject:
    samples = [(x[None],) for x in load_split()[0][24:28]]
    profile, roofline = load_profile("x86-64"), Roofline(1e9, 1e-3)
    return subject_of(model, plan_of("w8a8"), record, samples, profile, roofline)


def test_a_plan_within_a_size_and_a_latency(subject: Subject, tmp_path: Path) -> None:
    table, path = SensitivityTable(subject.key), tmp_path / "table.json"
    found = find_plan(subject, Wish(Budget.parse(["size=0.7"]), OPTIONS), table, path)
    assert found.parameter_bytes <= 0.7 * found.reference.parameters
    assert {p.weight_bits for p in found.plan.layers.values()} == {4, 8}
    assert SensitivityTable.load(path, subject.key) == table
    fast = find_plan(subject, Wish(Budget.parse(["latency=0.85"]), OPTIONS), table)
    assert fast.latency.total <= 0.85 * found.reference.us * 1.001


def test_what_cannot_be_planned(subject: Subject, model: Model, record: CalibrationRecord) -> None:
    with pytest.raises(PlanError, match="there is no sample"):
        subject_of(model, plan_of("w8a8"), record, [], load_profile("x86-64"), None)
    table = SensitivityTable(subject.key)
    with pytest.raises(PlanError, match="cannot be met"):
        find_plan(subject, Wish(Budget.parse(["size=0.1"]), OPTIONS[:1]), table)
