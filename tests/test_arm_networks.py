"""Whole networks for 64-bit ARM: the emulated board gives the bits of the simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulation import EmulatedBoard
from networks import NETS, Case, arrays, assert_same_bits, case_of, picked_widths

from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.demo import digits
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator

CPUS = {"arm-a72": "cortex-a72", "arm-a76": "cortex-a76", "arm-v1": "neoverse-v1"}
PRODUCTS = {"arm-a72": "smull", "arm-a76": "sdot", "arm-v1": "smmla"}
MODES = ("static", "dynamic", "predicted")
SUM_BYTES = 4


@pytest.fixture(params=CPUS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""
    return cache(lambda name: case_of(name, onnx_net, tmp_path_factory.mktemp(name)))


def check(board: EmulatedBoard, network: Case, plan: Any, target: str, batch: int = 1) -> None:
    compiled = network.compile(plan, batch=batch, target=target)
    x = network.samples[:batch]
    found = board.run(compiled.executable, [x], CPUS[target])
    assert_same_bits(found, arrays(Simulator(compiled.integer_module)(x)))


@pytest.mark.parametrize("name", NETS)
def test_every_network(name: str, target: str, case: Any, emulated_board: EmulatedBoard) -> None:
    check(emulated_board, case(name), plan_of("w8a8"), target)


@pytest.mark.parametrize("scheme", ["w8a8", "w4a8", "w6a4", "w8a16"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_bits(
    mode: str, scheme: str, target: str, case: Any, emulated_board: EmulatedBoard
) -> None:
    check(emulated_board, case("mixed"), plan_of(scheme, mode), target, batch=3)


@pytest.mark.parametrize("scheme", ["w4g32a8", "w6g64a8"])
def test_scales_of_groups(
    scheme: str, target: str, case: Any, emulated_board: EmulatedBoard
) -> None:
    check(emulated_board, case("broad"), plan_of(scheme), target, batch=2)


@pytest.mark.parametrize("name", ["own_residual", "swish", "grouped"])
def test_wide_activations(
    name: str, target: str, case: Any, emulated_board: EmulatedBoard
) -> None:  # fmt: skip
    check(emulated_board, case(name), plan_of("w4a12"), target)


def test_predicted_bits(target: str, case: Any, emulated_board: EmulatedBoard) -> None:
    mix, plan = case("mixed"), plan_of("w8a8", bits="predicted", tolerance_db=25.0)
    check(emulated_board, mix, plan, target, batch=3)
    picked = picked_widths(mix.compile(plan, batch=3, target=target), mix.samples[:3])
    assert max(max(widths) for widths in picked) < 8


def test_the_bundled_network(target: str, emulated_board: EmulatedBoard) -> None:
    calibration, _, _ = digits.load_split()
    network = Case(digits.MODEL_PATH, calibration[:32])
    check(emulated_board, network, plan_of("w8a8"), target, batch=2)


def test_layers_have_their_product_and_store_no_sums(target: str, case: Any) -> None:
    compiled = case("mixed").compile(plan_of("w8a8"), target=target)
    dense = [layer for layer in compiled.layers if layer.op == "conv2d"]
    assert {layer.instruction for layer in dense} == {PRODUCTS[target]}
    positions = 9 * 9
    for layer in dense[:2]:  # 16 channels at 81 positions
        assert layer.workspace_bytes < positions * 16 * SUM_BYTES
        assert layer.stored_bytes == 0


def test_a_trained_resnet(target: str, shared_data: Path, emulated_board: EmulatedBoard) -> None:
    card = load_card(shared_data / "cards" / "cifar10_resnet20.toml")
    (batch,) = model_inputs(card, "calibration", 6, 6)
    network = Case(card.model, np.asarray(batch.x))
    check(emulated_board, network, plan_of("w8a8"), target)
