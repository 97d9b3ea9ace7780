"""Layers of the same speed share a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tvm_probq.tuning.key import keys_like, layer_key
from tvm_probq.tuning.tasks import tasks_of


def test_a_key_is_readable(make_layer: Any) -> None:
    spec = make_layer(14, 14, 64, 32, 3, residual=True, activation="hard_swish", weight_bits=4)
    wanted = "conv 3x3/1x1 1x14x14x64 -> 14x14x32 pads 1,1,1,1 w4 codes hard_swish residual"
    assert layer_key(spec) == wanted


@pytest.mark.parametrize(
    "change",
    [{"correction": False}, {"activation": "clip(0.0,6.0)"}, {"activation": "none"},
     {"out_ranges": 32}],
)  # fmt: skip
def test_what_costs_nothing_is_left_out(make_layer: Any, change: dict[str, Any]) -> None:
    spec = make_layer(14, 14, 64, 32, 3)
    assert layer_key(replace(spec, **change)) == layer_key(spec)


@pytest.mark.parametrize(
    "change",
    [{"batch": 2}, {"pads": (0, 1, 1, 0)}, {"dilation": (1, 2)}, {"weight_bits": 4},
     {"strides": (2, 2)}, {"output": "float32"}, {"residual": True}, {"groups": 2},
     {"activation": "hard_sigmoid"}, {"small_weights": True},
     {"weight_bits": 4, "weight_group": 32}],
)  # fmt: skip
def test_what_decides_speed_is_in(make_layer: Any, change: dict[str, Any]) -> None:
    spec = make_layer(14, 14, 64, 32, 3)
    assert layer_key(replace(spec, **change)) != layer_key(spec)


def test_layers_of_few_bits_are_like_those_of_eight(make_layer: Any) -> None:
    spec = make_layer(14, 14, 64, 32, 3, weight_bits=2)
    eight = [replace(spec, weight_bits=8, small_weights=small) for small in (True, False)]
    assert keys_like(spec) == [layer_key(like) for like in eight]
    multiplied = replace(spec, weight_group=32)
    assert " w2g32 " in layer_key(multiplied)
    assert keys_like(multiplied) == [layer_key(eight[1])]
    assert layer_key(replace(multiplied, small_weights=True)) != layer_key(multiplied)
    assert not keys_like(eight[0])
    assert not keys_like(make_layer(14, 14, 63, 32, weight_bits=6))
    assert not keys_like(make_layer(14, 14, 64, 64, 3, weight_bits=4, groups=64))


def test_tasks_count_layers_of_the_same_key(make_layer: Any) -> None:
    spec, other = make_layer(14, 14, 64, 32), make_layer(14, 14, 32, 64)
    tasks = tasks_of([spec, other, replace(spec, correction=False)])
    assert [(task.spec, task.count) for task in tasks] == [(spec, 2), (other, 1)]


def test_packed_codes_have_a_key_and_tiles_of_bytes(make_layer: Any) -> None:
    spec = make_layer(14, 14, 64, 32, 3, residual=True)
    packed = replace(spec, in_bits=4, out_bits=4, residual_bits=4)
    assert layer_key(packed) != layer_key(spec)
    assert keys_like(packed) == [layer_key(spec)]
    assert keys_like(replace(packed, weight_bits=4))[1:] == keys_like(replace(spec, weight_bits=4))
