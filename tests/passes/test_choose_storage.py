"""The plan's choice of packed tensors stands in the graph."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_probq.passes.choose_storage import ChooseStorage, packed_names
from tvm_probq.plan.plan import plan_of


def test_names_are_noted(integer_net: Any) -> None:
    before = integer_net("w8a4")
    assert not packed_names(before)
    after = ChooseStorage(plan_of("w8a4", storage="packed"))(before)
    assert len(packed_names(after)) == before.script().count("R.probq.layer(")
    tvm.relax.analysis.well_formed(after)
    change = ChooseStorage(plan_of("w8a4", storage="packed"))
    tvm.ir.assert_structural_equal(change(after), after)
    name = sorted(packed_names(after))[0]
    single = plan_of("w8a4").override([name], storage="packed")
    assert packed_names(ChooseStorage(single)(before)) == {name}


def test_plans_of_bytes(integer_net: Any, unchanged: Any) -> None:
    unchanged(ChooseStorage(plan_of("w8a4")), integer_net("w8a4"))


@pytest.mark.parametrize("mode", ["static", "predicted"])
def test_the_graph_stays_one_of_bytes(integer_net: Any, mode: str) -> None:
    found = integer_net("w8a4", mode, storage="packed")
    assert packed_names(found)
    assert "pack_codes" not in found.script()
