"""Types of options' values, and plans from options."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tvm_probq.cli import options, plans
from tvm_probq.errors import PlanError, TargetError, UsageError
from tvm_probq.plan.plan import Plan, plan_of
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
    picked = plan_of("w8a6", bits="predicted", tolerance_db=25.0)
    given = ["--scheme", "w8a6", "--bits", "predicted", "--tolerance-db", "25"]
    assert plans.plan_from(parse(*given)) == picked
    assert picked.default.widths == (2, 3, 4, 5, 6)


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(PlanError, match="per-channel ranges go with"):
        plans.plan_from(parse("--per-channel", "--bits", "4,6"))
    with pytest.raises(PlanError, match="bits is 'predicted', but the mode is static"):
        plans.plan_from(parse("--mode", "static", "--bits", "predicted"))


def test_a_plan_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(plan_of("w4a8", "static").to_toml())
    assert plans.plan_from(parse("--plan", str(path))) == plan_of("w4a8", "static")
    for option in (("--bits", "4"), ("--tolerance-db", "30")):
        with pytest.raises(UsageError, match=rf"--plan and {option[0]} are both given"):
            plans.plan_from(parse("--plan", str(path), *option))


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
        plans.check_target(plan_of("w8a8", bits="4"), profile)


NAMES = ["stem", "block.1/conv", "block.2/conv"]


def overridden(*arguments: str, names: list[str] = NAMES) -> Plan:
    args = parse(*arguments)
    return plans.override_layers(plans.plan_from(args), args, names)


def test_skipped_layers_are_float_in_the_plan() -> None:
    plan = overridden("--scheme", "w4a8", "--skip", "block.*")
    assert [plan.layer(name).mode for name in NAMES] == ["predicted", "float", "float"]
    assert plan.layer("block.1/conv").reason == "--skip block.*"


def test_single_layers_have_their_own_mode_and_bits() -> None:
    plan = overridden("--mode", "static", "--mode", "stem=dynamic", "--scheme", "*1/conv=w4a6p")
    layers = [plan.layer(name) for name in NAMES]
    assert [layer.mode for layer in layers] == ["dynamic", "predicted", "static"]
    assert [layer.weight_bits for layer in layers] == [8, 4, 8]
    assert layers[1].activation_bits == 6
    assert layers[0].reason == "--mode stem=dynamic"
    assert Plan.from_toml(plan.to_toml()) == plan


def test_later_options_win_and_skipping_before_all() -> None:
    plan = overridden("--mode", "*=static", "--mode", "stem=dynamic", "--skip", "*1*")
    assert [plan.layer(name).mode for name in NAMES] == ["dynamic", "float", "static"]


def test_single_layers_have_their_own_predicted_bits() -> None:
    plan = overridden("--bits", "predicted", "--bits", "stem=fixed", "--bits", "*2/conv=4,6")
    assert [plan.layer(name).widths for name in NAMES] == [(8,), (2, 3, 4, 5, 6, 7, 8), (4, 6, 8)]
    assert plan.layer("stem").reason == "--bits stem=fixed"
    assert Plan.from_toml(plan.to_toml()) == plan


def test_layers_of_another_mode_have_no_predicted_bits() -> None:
    given = ["--mode", "stem=static", "--scheme", "*1/conv=w4a6d", "--skip", "*2/conv"]
    plan = overridden("--bits", "predicted", *given)
    assert [plan.layer(name).bits for name in NAMES] == ["fixed"] * 3
    assert plan.default.bits == "predicted"
    with pytest.raises(PlanError, match="the mode is static"):
        overridden("--mode", "stem=static", "--bits", "stem=predicted")


def test_names_with_the_signs_of_patterns() -> None:
    names = ["conv[1]=a", "conv1"]
    assert overridden("--skip", "conv[1]=a", names=names).layer("conv[1]=a").mode == "float"
    assert overridden("--mode", "conv[1]=a=static", names=names).layer(names[0]).mode == "static"


@pytest.mark.parametrize(
    "given",
    [
        ["--skip", "blok.1"],
        ["--mode", "blok.1=static"],
        ["--scheme", "blok.1=w4a8"],
        ["--bits", "blok.1=predicted"],
    ],
)
def test_a_pattern_that_matches_nothing(given: list[str]) -> None:
    with pytest.raises(UsageError, match=rf"{given[0]} blok\.1 matches no layer.*block\.1"):
        overridden(*given)


def test_no_layer_at_all() -> None:
    with pytest.raises(UsageError, match="no layers to quantize"):
        overridden("--skip", "*", names=[])


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--mode", "fast"], "'fast' is no mode"), (["--mode", "stem=fast"], "'fast' is no mode"),
     (["--scheme", "stem=w9a8"], "'w9a8' is no scheme"), (["--bits", "9"], "bits is '9'"),
     (["--bits", "stem=many"], "bits is 'many'")],
)  # fmt: skip
def test_values_that_are_none(given: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        overridden(*given)


def test_two_values_for_all_layers() -> None:
    with pytest.raises(UsageError, match="--mode is given 2 times"):
        overridden("--mode", "static", "--mode", "dynamic")
    with pytest.raises(UsageError, match="--bits is given 2 times"):
        overridden("--bits", "fixed", "--bits", "4,6")
