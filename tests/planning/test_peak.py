"""A budget of the peak of activations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tvm_probq.build.memory import Peak, peak_activation_bytes, peak_of
from tvm_probq.errors import PlanError
from tvm_probq.latency.ticked import lowered_calls
from tvm_probq.planning.options import Option
from tvm_probq.planning.peak import check_peak, restricted, within_peak
from tvm_probq.planning.planner import prices
from tvm_probq.planning.sizes import NetworkSizes, Pricing
from tvm_probq.planning.study import RUINED, Sensitivity, Study
from tvm_probq.target.profile import load_profile


def test_options_that_keep_it() -> None:
    networks = {"w8a8": NetworkSizes({}, 1, 100), "w4a8": NetworkSizes({}, 1, 60)}
    assert within_peak(None, networks) == ["w8a8", "w4a8"]
    assert within_peak(60.0, networks) == ["w4a8"]
    assert within_peak(59.0, networks) == []


def test_only_these_are_offered() -> None:
    networks = {
        "w8a8": NetworkSizes({"a": 1000, "b": 3000}, 5000, 1),
        "w4a8": NetworkSizes({"a": 600, "b": 1600}, 3200, 1),
    }
    reference = Sensitivity(1e-3, 1e-4, 1.0, 0.0, 0.0)
    measured = {"a": {"w4a8": reference}, "b": {"w4a8": replace(reference, added_noise=RUINED)}}
    found = prices(["a", "b"], networks, measured, reference)
    less = restricted(found, ["w8a8"])
    assert less.choices == {name: {"w8a8": found.choices[name]["w8a8"]} for name in ("a", "b")}
    assert less.uniform == found.uniform
    with pytest.raises(PlanError, match="b: the layer has no option that keeps the peak"):
        restricted(found, ["w4a8"])


def test_a_message_names_the_largest() -> None:
    peak = Peak(100, (("conv1", 50), ("image", 30), ("c", 10), ("d", 6), ("e", 3), ("f", 1)))
    check_peak(None, peak)
    check_peak(100.0, peak)
    with pytest.raises(PlanError) as raised:
        check_peak(99.0, peak)
    text = str(raised.value)
    assert "activations take 100 bytes at their peak, the budget is 99" in text
    assert "conv1 (50), image (30), c (10), d (6) and 2 smaller ones" in text
    assert "peak=100" in text


def test_packed_activations_take_half_of_it(study: Study) -> None:
    """Beside the buffers in which a kernel unpacks what it reads."""
    pricing = Pricing(study.model, study.record, load_profile("x86-64").target())
    sizes = []
    for name in ("w8a8", "w8a4", "w8a4:storage=packed"):
        plan = study.plan.override(study.layers, **Option.parse(name).changes)
        alive = dict(pricing.of_plan(plan)[1].tensors)
        sizes.append([alive[layer] for layer in ("block1", "block2")])
    assert sizes == [[1024, 1024], [1024, 1024], [512, 512]]


def test_what_is_alive_adds_up_to_the_peak_and_has_names(study: Study) -> None:
    mod = lowered_calls(
        study.model, study.plan, study.record, load_profile("x86-64").target(), None
    )
    peak = peak_of(mod)
    assert peak.total == peak_activation_bytes(mod) == sum(size for _, size in peak.tensors)
    sizes = [size for _, size in peak.tensors]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > 0
    assert {name for name, _ in peak.tensors} & {"image", *study.layers}
