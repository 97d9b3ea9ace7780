"""Plans as text, and every mistake in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.calibration.observers import OBSERVERS
from tvm_probq.errors import PlanError
from tvm_probq.plan.plan import (
    CORRECTIONS,
    MODES,
    RULES,
    SURROGATES,
    LayerPlan,
    Plan,
    plan_of,
    scheme_fields,
)

BITS = st.integers(2, 8)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LISTED = st.sets(BITS, min_size=1).map(lambda bits: ",".join(map(str, sorted(bits))))
WHOLE = st.builds(
    LayerPlan, weight_bits=BITS, activation_bits=st.integers(2, 16), mode=st.sampled_from(MODES),
    surrogate=st.sampled_from(SURROGATES), rule=st.sampled_from(RULES),
    coverage=st.floats(0.5, 0.9999), correction=st.sampled_from(CORRECTIONS),
    observer=st.sampled_from(sorted(OBSERVERS)),
    tolerance_db=st.floats(0.0, 60.0), reason=TEXT,
)  # fmt: skip
# Per-channel ranges have one bit-width and are not measured.
BY_CHANNEL = WHOLE.map(lambda plan: replace(plan, mode="static", per_channel=True))
PICKED = st.builds(
    lambda plan, widest, mode, bits: replace(plan, activation_bits=widest, mode=mode, bits=bits),
    WHOLE, BITS, st.sampled_from(["predicted", "float"]), st.just("predicted") | LISTED,
)  # fmt: skip
GROUPED = st.builds(
    lambda plan, bits, group: replace(plan, weight_bits=bits, weight_group=group),
    WHOLE, st.integers(2, 6), st.sampled_from([32, 64, 128]),
)  # fmt: skip
LAYERS = WHOLE | BY_CHANNEL | PICKED | GROUPED


@given(st.builds(Plan, LAYERS, st.dictionaries(TEXT, LAYERS, max_size=3)))
def test_round_trip(plan: Plan) -> None:
    text = plan.to_toml()
    assert Plan.from_toml(text) == plan
    assert Plan.from_toml(text).to_toml() == text


def test_the_text_is_short_and_readable() -> None:
    plan = Plan(LayerPlan(weight_bits=4), {"conv1/a": LayerPlan(weight_bits=4, mode="float")})
    default, layer = plan.to_toml().split("\n\n")
    assert default.startswith(
        '[default]\nweight_bits = 4\nactivation_bits = 8\nmode = "predicted"\n'
    )
    assert layer == '[layers."conv1/a"]\nmode = "float"\n'


def test_a_layer_like_the_default_says_only_what_differs() -> None:
    plan = Plan(LayerPlan(), {"a": LayerPlan(weight_bits=4, reason="small")})
    assert plan.to_toml().endswith('\n\n[layers."a"]\nweight_bits = 4\nreason = "small"\n')


def test_the_leading_correction_is_predicted_from_small_tables() -> None:
    leading, fine = LayerPlan(4, correction="leading"), LayerPlan(4)
    assert leading.rounding_correction == fine.rounding_correction == "predicted"
    assert fine.corrects_finely
    assert not leading.corrects_finely
    assert not LayerPlan(8).corrects_finely
    assert not LayerPlan(4, mode="static").corrects_finely


def test_the_scheme_of_a_plan_names_its_groups() -> None:
    assert plan_of("w4g32a8").scheme == "w4g32a8"
    plain = plan_of("w4g32a8").override(["a"], **scheme_fields("w8a8")).layer("a")
    assert (plain.weight_bits, plain.weight_group) == (8, 0)


def test_layers_take_the_default() -> None:
    plan = Plan.from_toml("[default]\nweight_bits = 4\n[layers.a]\nactivation_bits = 6\n")
    assert plan.layer("a") == LayerPlan(4, 6)
    assert plan.layer("b") == LayerPlan(4, 8)
    assert plan.scheme == "w4a8"


def test_an_empty_plan_is_the_default() -> None:
    assert Plan.from_toml("") == Plan()


@pytest.mark.parametrize(
    ("scheme", "mode", "wanted"),
    [
        ("w8a8", None, LayerPlan(8, 8, "predicted")),
        ("w4a6", "static", LayerPlan(4, 6, "static")),
        ("w4a8p", None, LayerPlan(4, 8, "predicted")),
        ("w2a3s", None, LayerPlan(2, 3, "static")),
        ("w8a8d", "dynamic", LayerPlan(8, 8, "dynamic")),
        ("w4g64a8", None, LayerPlan(4, 8, "predicted", weight_group=64)),
        ("w2g128a6s", None, LayerPlan(2, 6, "static", weight_group=128)),
        ("w8a16", None, LayerPlan(8, 16, "predicted")),
        ("w4a12s", None, LayerPlan(4, 12, "static")),
        ("w8a9d", None, LayerPlan(8, 9, "dynamic")),
    ],
)
def test_schemes(scheme: str, mode: str | None, wanted: LayerPlan) -> None:
    assert plan_of(scheme, mode) == Plan(wanted)


def test_options_of_a_scheme() -> None:
    assert plan_of("w8a8", surrogate="iid").default.surrogate == "iid"


@pytest.mark.parametrize(
    "scheme",
    [
        "",
        "w8",
        "a8w8",
        "w9a8",
        "w8a1",
        "w8a8x",
        "W8A8",
        "w8a8 ",
        "w16a8",
        "w8a17",
        "w8a08",
        "w8a20",
        "w4ga8",
        "w4g0a8",
    ],
)
def test_no_scheme(scheme: str) -> None:
    with pytest.raises(PlanError, match=r"is no scheme.*w8a8"):
        plan_of(scheme)


def test_a_scheme_against_its_mode() -> None:
    with pytest.raises(PlanError, match="w8a8s is static, but the mode asked is dynamic"):
        plan_of("w8a8s", "dynamic")


MISTAKES = {
    "weight_bits = ": "is no TOML",
    "[other]\n": "unknown section 'other'",
    "default = 3": "3 is no table",
    "layers = 3": "3 is no table",
    "[layers]\nconv = 3": "layer conv: 3 is no table",
    "[default]\nwidth = 3": "unknown key 'width'",
    "[default]\nweight_bits = 9": "weight_bits is 9",
    "[default]\nactivation_bits = 1": "activation_bits is 1",
    "[default]\nweight_bits = 4\nweight_group = 48": "weight_group is 48.*32, 64, 128",
    "[default]\nweight_bits = 4\nweight_group = -1": "weight_group is -1.*32, 64, 128",
    "[default]\nweight_group = 64": "weight_group is 64, but weight_bits is 8.*at most 6 bits",
    "[default]\nactivation_bits = 17": "activation_bits is 17.*use 2 to 16 bits",
    '[default]\nactivation_bits = 16\nbits = "predicted"': "predicted bit-widths end at 8",
    '[default]\nactivation_bits = 9\nbits = "4,8"': "bits is '4,8', but activation_bits is 9",
    "[default]\nweight_bits = 4.0": "weight_bits is 4.0.*give a int",
    '[default]\nweight_bits = "4"': "weight_bits is '4'.*give a int",
    "[default]\nweight_bits = true": "weight_bits is True",
    '[default]\nmode = "fast"': "mode is 'fast'.*predicted, static, dynamic, float",
    "[default]\nmode = 3": "mode is 3.*give a str",
    '[default]\nsurrogate = "x"': "surrogate is 'x'.*moments",
    '[default]\nrule = "x"': "rule is 'x'.*coverage",
    '[default]\ncorrection = "x"': "correction is 'x'.*static",
    '[default]\nobserver = "x"': "observer is 'x'.*minmax",
    "[default]\ncoverage = 1.0": "coverage is 1.0",
    "[default]\ncoverage = 0.1": "coverage is 0.1",
    "[default]\ncoverage = nan": "coverage is nan",
    "[default]\nper_channel = 1": "per_channel is 1.*give a bool",
    '[default]\nper_channel = true\nmode = "dynamic"': "per-channel ranges go with",
    '[default]\nper_channel = true\nbits = "predicted"': "per-channel ranges go with",
    "[default]\nbits = 3": "bits is 3.*give a str",
    '[default]\nbits = "8,4"': "bits is '8,4'.*ascending",
    '[default]\nbits = "4,9"': "bits is '4,9'.*2 to 8 bits",
    '[default]\nbits = "1,4"': "bits is '1,4'.*2 to 8 bits",
    '[default]\nbits = "some"': "bits is 'some'.*use fixed, predicted, or widths",
    '[default]\nbits = "predicted"\nmode = "static"': "bits is 'predicted', but the mode is static",
    '[default]\nbits = "4,6"\nmode = "dynamic"': "bits is '4,6', but the mode is dynamic",
    '[default]\nbits = "predicted"\n[layers.a]\nmode = "static"': "layer a: .*the mode is static",
    "[default]\ntolerance_db = -1.0": "tolerance_db is -1.0.*decibels from 0 to 60",
    "[default]\ntolerance_db = nan": "tolerance_db is nan",
    "[default]\ntolerance_db = 30": "tolerance_db is 30.*give a float",
    "[layers.conv1]\nweight_bits = 9": "layer conv1: weight_bits is 9",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str) -> None:
    with pytest.raises(PlanError, match=MISTAKES[text]) as caught:
        Plan.from_toml(text, "my.toml")
    assert caught.value.where.startswith("my.toml")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(plan_of("w4a8").to_toml(), encoding="utf-8")
    assert Plan.load(path) == plan_of("w4a8")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"="])
def test_files_that_cannot_be_read(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    assert caught.value.where == str(path)
