"""Sensitivities: what is computed again gives what the whole simulation gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tvm_probq.build.compile import quantized
from tvm_probq.planning.options import Option
from tvm_probq.planning.replay import Replay
from tvm_probq.planning.study import RUINED, Study
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.surrogate.attach import sums_sampling

NARROW = Option.parse("w4a8:correction=static")


def count_products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the operators that are evaluated from now on."""
    seen: list[str] = []
    original = Simulator._call

    def call(self: Simulator, call: Any, args: list[Any]) -> Any:
        seen.append(str(call.op.name))
        return original(self, call, args)

    monkeypatch.setattr(Simulator, "_call", call)
    return seen


@pytest.mark.parametrize("layer", ["stem", "block2", "logits"])
@pytest.mark.parametrize("option", ["w4a8", "w4a8:correction=static", "w3a5"])
def test_a_replay_equals_the_simulator(study: Study, layer: str, option: str) -> None:
    replay = Replay(study.samples)
    replay.remember(quantized(study.model, study.plan, study.record))
    plan = study.plan.override([layer], **Option.parse(option).changes)
    changed = quantized(study.model, plan, study.record)
    for sample, (outputs,) in zip(study.samples, replay.run(changed), strict=True):
        np.testing.assert_array_equal(outputs, Simulator(changed)(*sample))


def test_only_what_differs_is_computed(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.reference()
    seen = count_products(monkeypatch)
    study.alone("logits", NARROW)
    assert seen.count("relax.matmul") == len(study.samples)
    assert "relax.nn.conv2d" not in seen


def test_a_float_layer_is_without_its_own_errors(study: Study) -> None:
    found = [study.alone(layer, Option.parse("float")) for layer in study.layers]
    assert all(alone.added_noise > 0.0 for alone in found)
    assert min(alone.noise for alone in found) < 0.8 * study.reference().noise
    assert study.of_plan(study.plan.override(study.layers, mode="float")).noise < 1e-10


def test_fewer_bits_lose_more(study: Study) -> None:
    reference = study.reference()
    assert reference.added_noise == 0.0
    assert reference.added_kl == 0.0
    assert 0 < reference.noise < 1e-3
    found = [study.alone("block1", Option.parse(f"w{bits}a8")) for bits in (6, 4, 3)]
    for values in ([s.added_noise for s in found], [s.added_kl for s in found]):
        assert values == sorted(values)  # type: ignore[type-var]
        assert values[0] is not None
        assert values[0] > 0
    assert found[-1].noise > reference.noise


def test_an_option_that_changes_nothing_adds_nothing(study: Study) -> None:
    assert study.alone("block1", Option.parse("w8a8")) == study.reference()


@pytest.mark.parametrize("option", ["w4a8", "w4a8:correction=leading", "w6a8:correction=none"])
def test_what_is_compared_has_the_same_sums(study: Study, option: str) -> None:
    """A predicted correction of few bits sums over more positions, in all layers."""
    codes = relax.Var("q", relax.TensorType((1, 64, 64, 32), "uint8"))
    narrow = Option.parse(option)
    changed = study.plan.override(["block1"], **narrow.changes)
    reference = study._sampled_for(narrow)
    assert sums_sampling(codes, reference) == sums_sampling(codes, changed)
    is_finer = sums_sampling(codes, changed) != sums_sampling(codes, study.plan)
    assert is_finer == (option == "w4a8")
    for name in study.layers:
        assert reference.layer(name) == study.plan.layer(name)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_outputs_that_are_not_finite_are_the_worst(study: Study, value: float) -> None:
    outputs = study._reference(study.plan)
    found = study._compare([(np.full_like(y, value),) for (y,) in outputs], outputs)
    assert found.added_noise == found.noise == RUINED
    assert found.kl is not None
    assert 0 < found.kl <= RUINED


def test_losses_of_layers_add_up(study: Study) -> None:
    layers = ["block1", "block2", "logits"]
    alone = sum(study.alone(layer, NARROW).added_noise for layer in layers)
    together = study.of_plan(study.plan.override(layers, **NARROW.changes)).added_noise
    assert alone / 2 < together < 2 * alone
