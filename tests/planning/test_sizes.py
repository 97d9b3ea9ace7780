"""Bytes of networks: by layer and option, as compiled, and kept with the sensitivities."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tvm_probq.build.compile import compile_model
from tvm_probq.errors import PlanError
from tvm_probq.latency.roofline import Roofline
from tvm_probq.planning.options import Option
from tvm_probq.planning.sizes import NetworkSizes, Pricing
from tvm_probq.planning.study import Study
from tvm_probq.planning.table import SensitivityTable
from tvm_probq.target.profile import load_profile

PROFILE = load_profile("x86-64")
TARGET = PROFILE.target()
ROOFLINE = Roofline(1e9, 1e-3)
KEY = {"model": "a"}


def sizes(study: Study, option: str) -> NetworkSizes:
    pricing = Pricing(study.model, study.record, TARGET, None, ROOFLINE)
    return pricing.of_option(study.plan, study.layers, Option.parse(option))


def test_fewer_bits_take_less_and_the_rest_stays(study: Study) -> None:
    networks = {option: sizes(study, option) for option in ("w8a8", "w4a8:correction=static")}
    wide, narrow = networks["w8a8"], networks["w4a8:correction=static"]
    assert list(wide.layers) == list(narrow.layers) == list(study.layers)
    for layer in study.layers:
        assert 0 < narrow.layers[layer] < wide.layers[layer]
        # The bound is that of the bytes.
        assert 0 < narrow.layers_us[layer] < wide.layers_us[layer]
    assert sum(wide.layers_us.values()) < wide.us
    rests = {n.parameters - sum(n.layers.values()) for n in networks.values()}
    assert len(rests) == 1
    assert rests.pop() >= 0


def test_products_of_16_bits_count_twice(study: Study) -> None:
    pricing = Pricing(study.model, study.record, TARGET, None, Roofline(1e-3, 1e9))
    plan = study.plan.override(["stem"], activation_bits=16)
    narrow, wide = (pricing.of_plan(p)[2].layers for p in (study.plan, plan))
    assert wide["block1"] == pytest.approx(2 * narrow["block1"])
    assert wide["pointwise"] == pytest.approx(narrow["pointwise"])


def test_predictions_of_their_own_kernels_are_of_their_layers(study: Study) -> None:
    """On a GPU: the tables of a correction are its layer's, as on a CPU."""
    target, option = load_profile("cuda-sm80").target(), "w8a8:correction=static"
    pricing = Pricing(study.model, study.record, target)
    predicted, static = (
        pricing.of_option(study.plan, study.layers, Option.parse(name)) for name in ("w8a8", option)
    )
    for layer in study.layers:
        assert static.layers[layer] < predicted.layers[layer]
    rests = {n.parameters - sum(n.layers.values()) for n in (predicted, static)}
    assert len(rests) == 1


def test_a_float_layer_takes_its_weights_and_the_changes_of_format(study: Study) -> None:
    """Weights of four bytes, and time that no bound below that of 8 bits is claimed for."""
    pricing = Pricing(study.model, study.record, TARGET, None, ROOFLINE)
    wide = sizes(study, "w8a8")
    found = pricing.of_option(study.plan, ["block1", "logits"], Option.parse("float"))
    for layer, weights in {"block1": 9 * 16 * 16, "logits": 32 * 10}.items():
        assert found.layers[layer] > max(4 * weights, wide.layers[layer])
        assert found.layers_us[layer] >= wide.layers_us[layer]
        parameters, _, _ = pricing.of_plan(study.plan.override([layer], mode="float"))
        assert found.layers[layer] - wide.layers[layer] == parameters - wide.parameters


@pytest.mark.slow
def test_they_are_those_of_what_is_compiled(study: Study) -> None:
    plan = study.plan.override(["block1", "logits"], weight_bits=4)
    parameters, peak, latency = Pricing(study.model, study.record, TARGET).of_plan(plan)
    assert latency.total == 0.0
    compiled = compile_model(study.model, plan, study.record, PROFILE)
    assert (parameters, peak.total) == (compiled.parameter_bytes, compiled.peak_activation_bytes)


def test_a_table_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table = SensitivityTable(KEY)
    table.sizes["cpu"] = {"w8a8": NetworkSizes({"b": 2, "a": 1}, 3, 4, {"a": 0.5}, 2.0)}
    table.save(path)
    assert SensitivityTable.load(path, KEY) == table


@pytest.mark.parametrize("value", [-1, 1.5, "1", None])
def test_damaged_ones_are_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "table.json"
    table = SensitivityTable(KEY)
    table.sizes["cpu"] = {"w8a8": NetworkSizes({"a": 1}, 3, 4)}
    table.save(path)
    data = json.loads(path.read_text())
    data["sizes"]["cpu"]["w8a8"]["peak"] = value
    path.write_text(json.dumps(data))
    with pytest.raises(PlanError, match="is damaged"):
        SensitivityTable.load(path, KEY)
