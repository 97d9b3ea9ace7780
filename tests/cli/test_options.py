"""Types of options' values, and plans from options."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tvm_probq.cli import options, plans
from tvm_probq.errors import PlanError, TargetError, UsageError
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import TargetProfile


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    plans.add_plan(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²"])
def test_positive_numbers_alone(text: str) -> None:
    assert options.positive("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="no whole number of at least 1"):
        options.positive(text)


@pytest.mark.parametrize("text", ["image", "=1,2", "image=", "image=1,,2", "image=1,x", "1,2"])
def test_shapes(text: str) -> None:
    assert options.shape("image=1,3,8,8") == ("image", (1, 3, 8, 8))
    assert options.shape("a=b=1") == ("a=b", (1,))
    with pytest.raises(argparse.ArgumentTypeError, match="write NAME=1,3,224,224"):
        options.shape(text)


def test_widths_ascend() -> None:
    assert options.widths("4,6,8") == (4, 6, 8)
    for text in ("8,4", "4,4", "4,"):
        with pytest.raises(argparse.ArgumentTypeError):
            options.widths(text)


def test_the_default_plan_is_predicted_in_8_bits() -> None:
    assert plans.plan_from(parse()) == plan_of("w8a8", "predicted")


def test_options_become_the_plan() -> None:
    given = ["--mode", "static", "--scheme", "w4a6", "--observer", "entropy", "--per-channel"]
    given += [
        "--rounding",
        "nearest",
        "--rule",
        "mse",
        "--coverage",
        "0.99",
        "--correction",
        "none",
        "--surrogate",
        "iid",
    ]
    expected = plan_of(
        "w4a6",
        "static",
        observer="entropy",
        per_channel=True,
        rounding="nearest",
        rule="mse",
        coverage=0.99,
        correction="none",
        surrogate="iid",
    )
    assert plans.plan_from(parse(*given)) == expected
    assert plans.plan_from(parse("--bits-from", "4,6")) == plan_of("w8a8", bits_from=(4, 6))


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(PlanError, match="per-channel ranges go with"):
        plans.plan_from(parse("--per-channel", "--bits-from", "4,6"))


def test_a_plan_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(plan_of("w4a8", "static").to_toml())
    assert plans.plan_from(parse("--plan", str(path))) == plan_of("w4a8", "static")
    with pytest.raises(UsageError, match=r"--plan and --bits-from are both given"):
        plans.plan_from(parse("--plan", str(path), "--bits-from", "4"))


def test_a_bad_scheme_is_explained() -> None:
    with pytest.raises(PlanError, match="'w9' is no scheme"):
        plans.plan_from(parse("--scheme", "w9"))


def test_the_target_must_have_the_kernels() -> None:
    profile = TargetProfile("tiny", "", {}, (), "", (8,), (6, 8))
    plans.check_target(plan_of("w8a6"), profile)
    plans.check_target(plan_of("w2a2", "float"), profile)
    with pytest.raises(TargetError, match=r"the plan's default: .*weights of 4 bits"):
        plans.check_target(plan_of("w4a8"), profile)
    with pytest.raises(TargetError, match=r"activations of 4 bits"):
        plans.check_target(plan_of("w8a8", bits_from=(4, 8)), profile)


def test_skipped_layers_are_float_in_the_plan() -> None:
    names = ["stem", "block.1/conv", "block.2/conv"]
    plan = plans.skip_layers(plan_of("w4a8"), ["block.*"], names)
    assert [plan.layer(name).mode for name in names] == ["predicted", "float", "float"]
    assert plan.layer("block.1/conv").reason == "--skip block.*"


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(UsageError, match=r"--skip blok\.1 matches no layer.*block\.1"):
        plans.skip_layers(plan_of("w8a8"), ["blok.1"], ["stem", "block.1"])
