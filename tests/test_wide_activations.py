"""Activations of 9 to 16 bits, end to end: compiled code equals the simulator, and is closer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from networks import BEST, NETS, Case, arrays, assert_same_bits, case_of, check, run, sqnr_db

from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.ir.layers import Definitions
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

MODES = ("static", "dynamic", "predicted")


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""
    return cache(lambda name: case_of(name, onnx_net, tmp_path_factory.mktemp(name)))


def dtypes(compiled: Any) -> set[str]:
    order = Definitions(compiled.integer_module["main"]).order
    return {str(getattr(call.ty, "dtype", "")) for call in order}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_every_network(name: str, mode: str, case: Any) -> None:
    small = case(name)
    compiled = small.compile(plan_of("w8a16", mode), batch=2)
    assert "int16" in dtypes(compiled)
    check(compiled, small.samples[:2])


@pytest.mark.parametrize("target", ["x86-avx-vnni", "x86-avx512", "x86-avx2", "x86-64"])
@pytest.mark.parametrize("scheme", ["w8a16", "w4a12"])
def test_other_targets_give_the_same_bits(scheme: str, target: str, case: Any) -> None:
    mix = case("mixed")
    x = mix.samples[:3]
    found = check(mix.compile(plan_of(scheme), batch=3, target=target), x)
    if load_profile(BEST).runs_here:
        assert_same_bits(found, run(mix.compile(plan_of(scheme), batch=3).executable, x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("index", range(4))
def test_single_layers(index: int, mode: str, case: Any) -> None:
    mix = case("mixed")
    kinds = ("conv2d", "input")
    names = [n for n, m in marked_tensors(mix.model(1).mod).items() if m.kind in kinds]
    plan = plan_of("w8a8", mode).override([names[index]], activation_bits=16)
    compiled = mix.compile(plan, batch=2)
    levels = {layer.name: layer.levels for layer in compiled.layers}
    assert {name for name, count in levels.items() if count} == {names[index]}
    assert levels[names[index]] == 32768
    check(compiled, mix.samples[:2])


@pytest.mark.parametrize("options", [{"per_channel": True}, {"surrogate": "iid"},
                                     {"per_channel": True, "mode": "static"}], ids=str)  # fmt: skip
def test_options_of_the_plan(options: dict[str, Any], case: Any) -> None:
    mix = case("mixed")
    check(mix.compile(plan_of("w8a12", **options), batch=3), mix.samples[:3])


@pytest.mark.parametrize("mode", MODES)
def test_unusual_inputs(mode: str, case: Any) -> None:
    mix = case("mixed")
    compiled = mix.compile(plan_of("w8a16", mode), batch=3)
    zeros = np.zeros_like(mix.samples[:3])
    for x in (zeros, mix.samples[:3] * np.float32(1e-30), mix.samples[:3] * np.float32(1e6)):
        check(compiled, x)


def test_a_batch_is_its_samples_one_by_one(case: Any) -> None:
    mix = case("mixed")
    x = mix.samples[:3] * np.float32([1, 5, 0.2]).reshape(3, 1, 1, 1)
    single = mix.compile(plan_of("w8a16")).executable
    (together,) = run(mix.compile(plan_of("w8a16"), batch=3).executable, x)
    apart = np.concatenate([run(single, x[i : i + 1])[0] for i in range(3)])
    assert_same_bits([together], [apart])


@pytest.mark.parametrize("mode", ["dynamic", "predicted"])
def test_more_levels_are_closer(mode: str, case: Any) -> None:
    """Of fully connected layers, whose weights' rounding the predicted correction undoes."""
    small = case("vectors")
    (wanted,) = arrays(Simulator(small.model(4).mod)(small.samples[:4]))
    noise = []
    for scheme in ("w8a8", "w8a10", "w8a12"):
        (found,) = check(small.compile(plan_of(scheme, mode), batch=4), small.samples[:4])
        noise.append(sqnr_db(found, wanted))
    assert noise[1] > noise[0] + 6
    assert noise[2] > noise[1] + 6


def test_reports(case: Any) -> None:
    mix = case("mixed")
    layers = {layer.name: layer for layer in mix.compile(plan_of("w8a12"), batch=2).layers}
    assert layers["x"].activation_bits == 12
    assert layers["x"].levels == 4096
    pooled = layers["pool"]
    assert (pooled.activation_bits, pooled.levels) == (8, 0)
    assert "stored in 8 bits" in pooled.reason
    instructions = {layer.instruction for layer in layers.values() if layer.op == "conv2d"}
    assert instructions == {"vpdpwssd"}
    plain = mix.compile(Plan(), batch=2).layers
    assert {layer.levels for layer in plain} == {0}
    assert {layer.activation_bits for layer in plain} <= {8, 32}
