"""Weights with scales of groups, end to end: compiled code equals the simulator, and is closer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from networks import BEST, Case, arrays, assert_same_bits, case_of, check, run, sqnr_db

from tvm_probq.passes.lower_layers import layer_specs
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""
    return cache(lambda name: case_of(name, onnx_net, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
@pytest.mark.parametrize("scheme", ["w4g32a8", "w6g64a8", "w2g32a8"])
def test_every_mode_and_bits(scheme: str, mode: str, case: Any) -> None:
    broad = case("broad")
    compiled = broad.compile(plan_of(scheme, mode), batch=2)
    group = int(scheme[3:5])
    found = {s.weight_group for s in layer_specs(compiled.integer_module)}
    assert found >= {0, group}
    check(compiled, broad.samples[:2])


@pytest.mark.parametrize("target", ["x86-avx-vnni", "x86-avx512", "x86-avx2", "x86-64"])
def test_other_targets_give_the_same_bits(target: str, case: Any) -> None:
    broad, plan = case("broad"), plan_of("w4g32a8")
    found = check(broad.compile(plan, batch=2, target=target), broad.samples[:2])
    if load_profile(BEST).runs_here:
        assert_same_bits(found, run(broad.compile(plan, batch=2).executable, broad.samples[:2]))


def test_layers_of_few_inputs_have_one_scale(case: Any) -> None:
    layers = {x.name: x for x in case("broad").compile(plan_of("w4g64a8"), batch=2).layers}
    products = [x for x in layers.values() if x.macs]
    assert {x.weight_bits for x in products} == {4}
    assert [x.weight_group for x in products] == [0, 0, 0, 64, 0, 64, 64]
    assert products[2].op == "depthwise"


def test_smaller_groups_are_closer_and_cost_a_byte_each(case: Any) -> None:
    broad = case("broad")
    wanted = arrays(Simulator(broad.model(4).mod)(broad.samples[:4]))
    noise, sizes = [], []
    for scheme in ("w4a8", "w4g32a8", "w8a8"):
        compiled = broad.compile(plan_of(scheme, correction="static"), batch=4)
        (found,) = check(compiled, broad.samples[:4])
        noise.append(sqnr_db(found, wanted[0]))
        sizes.append(compiled.parameter_bytes)
    assert noise == sorted(noise)
    assert sizes[0] < sizes[1] < sizes[0] + 0.1 * (sizes[2] - sizes[0])
