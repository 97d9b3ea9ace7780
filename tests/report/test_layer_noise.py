"""Noise of layers: what it adds up to, and what it does not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import PlanError
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.passes.equalize_channels import EqualizeChannels
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.report.culprits import OPTIONS, Subject, alone, options_to_try
from tvm_probq.report.layer_noise import LayerNoise, network_noise, output_noise
from tvm_probq.simulator.numerics import make_qparams


def inputs(count: int, scale: float = 1.0, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) * scale for _ in range(count)]


@pytest.fixture(scope="module")
def subject(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A network whose second layer has weights that rounding to 2 bits ruins."""
    net = onnx_net(3, 8, 8)
    y = net("Relu", net.conv("x", 3, 8))
    y = net("Relu", net.conv(y, 8, 8, group=8))
    y = net("GlobalAveragePool", net("Relu", net.conv(y, 8, 12)))
    net.gemm(net("Flatten", y), 12, 5)
    model = load_model(net.save(tmp_path_factory.mktemp("noise"), net.nodes[-1].output[0]))
    record = collect(model.mod, inputs(24, seed=1), CalibrationRecord(model.sha256, ""))
    return Subject(model, plan_of("w8a8"), record)


def modules(model: Model, plan: Plan, record: CalibrationRecord) -> tuple[Any, Any]:
    equalize: Any = EqualizeChannels(record)
    return equalize(model.mod), tvm.transform.Sequential(quantize_passes(plan, record))(model.mod)


def test_every_layer_is_measured(subject: Subject) -> None:
    noise = network_noise(*modules(subject.model, subject.plan, subject.record), inputs(4))
    assert list(noise.layers) == ["x", "Conv_0", "Conv_2", "Conv_4", "Gemm_8"]
    for name, layer in noise.layers.items():
        assert 15 < layer.total.ratio_db() < 70
        if name == "Gemm_8":  # float32: nothing is stored as codes
            assert layer.coverage is None
        else:
            assert layer.own.ratio_db() >= layer.total.ratio_db() - 1.0
            assert layer.coverage is not None
            assert layer.coverage > 0.98
    assert noise.layers["x"].own.ratio_db() == noise.layers["x"].total.ratio_db()
    outputs = noise.outputs.ratio_db()
    assert outputs == pytest.approx(noise.layers["Gemm_8"].total.ratio_db())
    assert (
        outputs
        == output_noise(*modules(subject.model, subject.plan, subject.record), inputs(4)).ratio_db()
    )


def test_static_ranges_do_not_follow_larger_inputs(subject: Subject) -> None:
    found = {}
    for mode in ("static", "predicted"):
        plan = plan_of("w8a8", mode)
        noise = network_noise(*modules(subject.model, plan, subject.record), inputs(4, 4.0))
        found[mode] = noise.layers["Conv_0"].coverage or 0.0
    assert found["static"] < 0.9
    assert found["predicted"] > 0.98


def test_storing_counts_what_lies_outside() -> None:
    noise, exact = LayerNoise(), np.linspace(0, 4, 401, dtype=np.float32).reshape(1, 401)
    qparams = make_qparams(np.zeros((1, 1)), np.full((1, 1), 2.0), 255)
    codes = np.zeros((1, 401), np.uint8)
    noise.add(exact, codes, qparams)
    assert noise.coverage == pytest.approx(201 / 401, abs=1 / 401)
    assert noise.total.ratio_db() == 0.0  # all of it is lost
    assert noise.own.ratio_db() > 0


def test_the_layer_of_fewest_bits_is_the_worst_alone(subject: Subject) -> None:
    plan = subject.plan.override(["Conv_4"], weight_bits=2)
    changed = Subject(subject.model, plan, subject.record)
    found = dict(alone(changed, ["Conv_0", "Conv_2", "Conv_4", "Gemm_8"], inputs(4)))
    assert min(found, key=lambda name: found[name]) == "Conv_4"
    assert found["Conv_4"] < min(v for n, v in found.items() if n != "Conv_4") - 10
    # No layer alone is worse than nearly all of the noise.
    together = changed.noise(inputs(4)).ratio_db()
    assert found["Conv_4"] > together - 1.0


def test_a_float_network_has_no_noise(subject: Subject) -> None:
    changed = Subject(subject.model, plan_of("w8a8", "float"), subject.record)
    assert changed.noise(inputs(2)).ratio_db() > 100  # beside the units of equalized channels


def test_options_that_change_a_plan() -> None:
    assert set(options_to_try(plan_of("w8a8"))) <= set(OPTIONS)
    assert "--mode dynamic" not in options_to_try(plan_of("w8a8", "dynamic"))
    assert "--per-channel" not in options_to_try(plan_of("w8a8", "dynamic"))
    tried = options_to_try(plan_of("w8a8", bits="predicted"))
    assert tried["--bits fixed"] == plan_of("w8a8")
    assert not {"--per-channel", "--mode dynamic"} & set(tried)  # they do not go together
    assert "--bits fixed" not in options_to_try(plan_of("w8a8"))
    tried = options_to_try(plan_of("w4a8").override(["a"], mode="float"))
    assert all(plan.layer("a").mode == "float" for plan in tried.values())
    assert tried["--rule mse"].default.rule == "mse"
    with pytest.raises(PlanError):
        plan_of("w8a8", "dynamic", per_channel=True)
