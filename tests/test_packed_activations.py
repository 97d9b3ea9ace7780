"""Activations of 4 bits stored two in a byte, end to end: compiled code equals the simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from emulation import EmulatedBoard
from networks import NETS, Case, arrays, assert_same_bits, case_of, check

from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator

TARGETS = ("x86-64", "x86-avx2", "x86-vnni", "x86-amx")
BOARDS = {"arm-a72": "cortex-a72", "arm-a76": "cortex-a76", "arm-v1": "neoverse-v1"}
MODES = ("static", "dynamic", "predicted")
BLOCKS = ("mixed", "own_residual", "grouped", "swish")  # whose layers read each other


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""
    return cache(lambda name: case_of(name, onnx_net, tmp_path_factory.mktemp(name)))


def packed(compiled: Any) -> list[str]:
    return [layer.name for layer in compiled.layers if layer.packed]


@pytest.mark.parametrize("scheme", ["w8a4s", "w4a4p"])
@pytest.mark.parametrize("name", NETS)
def test_every_network(name: str, scheme: str, case: Any) -> None:
    small = case(name)
    compiled = small.compile(plan_of(scheme, storage="packed"), batch=2, target="x86-64")
    check(compiled, small.samples[:2])
    if name in BLOCKS:
        assert packed(compiled)


@pytest.mark.parametrize("scheme", ["w4a4", "w8a4"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str, scheme: str, case: Any) -> None:
    mix = case("mixed")
    compiled = mix.compile(plan_of(scheme, mode, storage="packed"), 3, "x86-64")
    check(compiled, mix.samples[:3])
    # Dynamic mode stores its accumulators in any case.
    assert bool(packed(compiled)) == (mode != "dynamic")
    others = [
        layer.reason for layer in compiled.layers if not layer.packed and layer.activation_bits == 4
    ]
    assert others
    assert all(reason for reason in others)


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets(target: str, case: Any) -> None:
    mix = case("mixed")
    for options in ({}, {"surrogate": "iid"}, {"bits": "predicted"}, {"per_channel": True}):
        compiled = mix.compile(plan_of("w8a4", storage="packed", **options), 3, target)
        assert packed(compiled)
        check(compiled, mix.samples[:3])


@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("name", BLOCKS)
def test_boards(name: str, target: str, case: Any, emulated_board: EmulatedBoard) -> None:
    small = case(name)
    compiled = small.compile(plan_of("w4a4", storage="packed"), 2, target)
    assert packed(compiled)
    x = small.samples[:2]
    found = emulated_board.run(compiled.executable, [x], BOARDS[target])
    assert_same_bits(found, arrays(Simulator(compiled.integer_module)(x)))


def test_reports_and_memory(case: Any) -> None:
    plan = plan_of("w8a4")
    assert not packed(case("mixed").compile(plan, target="x86-64"))
    names = packed(case("mixed").compile(plan_of("w8a4", storage="packed"), target="x86-64"))
    single = case("mixed").compile(plan.override(names[:1], storage="packed"), target="x86-64")
    assert packed(single) == names[:1]


def test_resnet20(shared_data: Path) -> None:
    card = load_card(shared_data / "cards" / "cifar10_resnet20.toml")
    (batch,) = model_inputs(card, "calibration", 4, 4)
    network = Case(card.model, batch.x)
    bytes_, halves = (
        network.compile(plan_of("w4a4", storage=kind), target="x86-64")
        for kind in ("bytes", "packed")
    )
    assert len(packed(halves)) >= 16
    assert halves.peak_activation_bytes < 0.9 * bytes_.peak_activation_bytes
    found = [check(compiled, network.samples[:1]) for compiled in (bytes_, halves)]
    assert_same_bits(*found)
