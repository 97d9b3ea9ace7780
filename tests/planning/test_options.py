"""Options by name."""

from __future__ import annotations

import pytest

from tvm_probq.errors import PlanError
from tvm_probq.plan.plan import LayerPlan
from tvm_probq.planning.options import Option, default_options, options_of


def test_a_scheme_and_a_correction() -> None:
    layer = Option.parse("w4a6:correction=static").layer(LayerPlan(mode="dynamic"))
    assert layer == LayerPlan(4, 6, "dynamic", correction="static")
    assert Option.parse("w4a8").layer(LayerPlan(correction="none")).correction == "none"


def test_packed_storage_and_groups() -> None:
    option = Option.parse("w4g64a4:correction=static:storage=packed")
    layer = option.layer(LayerPlan(mode="static"))
    assert layer == LayerPlan(
        4, 4, "static", correction="static", storage="packed", weight_group=64
    )
    with pytest.raises(PlanError, match="no 'storage=x' to choose"):
        Option.parse("w8a4:storage=x")


def test_float_and_wider_outputs_may_gain() -> None:
    option = Option.parse("float")
    assert option.layer(LayerPlan(correction="none")) == LayerPlan(mode="float", correction="none")
    assert option.is_float
    assert option.widens
    assert Option.parse("w8a16").widens
    assert not Option.parse("w8a8").widens
    assert not Option.parse("w4a8").widens


def test_the_reference_comes_first_and_once() -> None:
    assert [o.name for o in options_of(["w4a8", "w8a8", "w4a8"])] == ["w8a8", "w4a8"]


def test_static_networks_have_no_correction_to_choose() -> None:
    assert default_options("static") == ["w8a8", "w6a8", "w4a8"]
    predicted = default_options("predicted")
    assert len(set(predicted)) == 6
    assert "w6a8:correction=static" in predicted
    assert options_of(predicted)[0].name == "w8a8"


@pytest.mark.parametrize(
    "text",
    ["", "w9a8", "w4", "w4a8s", "w4a8:correction=x", "w4a8:mode=static", "float:correction=static"],
)
def test_mistakes(text: str) -> None:
    with pytest.raises(PlanError):
        Option.parse(text)
