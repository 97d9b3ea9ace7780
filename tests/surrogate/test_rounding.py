"""Rounding of a layer's weights by its plan, and what the record remembers of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tvm_probq.calibration.record import TensorRecord
from tvm_probq.plan.plan import LayerPlan
from tvm_probq.quantization.weights import round_weights
from tvm_probq.surrogate.rounding import round_layer

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3, 3, 5)).astype(np.float32)


def test_weights_are_rounded_once() -> None:
    tensor, plan = TensorRecord(), LayerPlan()
    first = round_layer(WEIGHTS, tensor, plan)
    assert round_layer(WEIGHTS.copy(), tensor, replace(plan, activation_bits=4)) is first
    assert np.array_equal(round_layer(WEIGHTS, TensorRecord(), plan).codes, first.codes)


def test_other_weights_and_plans_are_rounded_anew() -> None:
    tensor, plan = TensorRecord(), LayerPlan()
    first = round_layer(WEIGHTS, tensor, plan)
    changed = WEIGHTS.copy()
    changed[0, 0, 0, 0] += 1
    others = [
        round_layer(changed, tensor, plan),
        round_layer(WEIGHTS, tensor, replace(plan, weight_bits=4)),
        round_layer(WEIGHTS, tensor, replace(plan, rounding="nearest")),
        round_layer(WEIGHTS, tensor, replace(plan, weight_bits=4, weight_clip="none")),
    ]
    for other in others:
        assert not np.array_equal(other.codes, first.codes)
    nearest = round_weights(WEIGHTS, 8)
    assert np.array_equal(others[2].codes, nearest.codes)
    assert np.array_equal(others[2].scale, nearest.scale)


def test_what_is_remembered_is_not_saved() -> None:
    tensor = TensorRecord()
    before = tensor.to_json()
    round_layer(WEIGHTS, tensor, LayerPlan())
    assert tensor.to_json() == before
