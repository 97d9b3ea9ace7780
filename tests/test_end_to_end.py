"""From an ONNX file to compiled code whose results equal the simulator's, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from networks import (
    BEST,
    NETS,
    Case,
    arrays,
    assert_same_bits,
    case_of,
    check,
    picked_widths,
    run,
    sqnr_db,
)
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.demo import digits
from tvm_probq.passes.pipeline import canonical_passes, pipeline
from tvm_probq.plan.plan import LayerPlan, Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

MODES = ("static", "dynamic", "predicted")
SCHEMES = ("w8a8", "w8a6", "w8a4", "w4a8", "w4a4", "w6a8")


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""

    return cache(lambda name: case_of(name, onnx_net, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_scheme(mode: str, scheme: str, case: Any) -> None:
    mix = case("mixed")
    compiled = mix.compile(plan_of(scheme, mode), batch=3)
    check(compiled, mix.samples[:3])
    check(compiled, mix.samples[4:7] * np.float32(3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [n for n in NETS if n != "mixed"])
def test_every_network(name: str, mode: str, case: Any) -> None:
    small = case(name)
    wanted = arrays(Simulator(small.model(1).mod)(small.samples[:1]))
    found = check(small.compile(plan_of("w8a8", mode), batch=1), small.samples[:1])
    assert min(map(sqnr_db, found, wanted)) > 25
    if mode == "predicted" and name in ("grouped", "swish", "shuffled", "two_outputs"):
        check(small.compile(plan_of("w4a8", mode), batch=3), small.samples[:3])


@pytest.mark.parametrize("target", ["x86-avx-vnni", "x86-avx512", "x86-avx2", "x86-64"])
@pytest.mark.parametrize("scheme", ["w8a8", "w6a8", "w4a8"])
def test_other_targets_give_the_same_bits(scheme: str, target: str, case: Any) -> None:
    mix = case("mixed")
    x = mix.samples[:3]
    found = check(mix.compile(plan_of(scheme), batch=3, target=target), x)
    if load_profile(BEST).runs_here:
        assert_same_bits(found, run(mix.compile(plan_of(scheme), batch=3).executable, x))


@pytest.mark.parametrize(
    ("scheme", "instructions"), [("w8a8", {"vpmaddwd"}), ("w6a8", {"vpmaddubsw"})]
)
def test_avx2_multiplies_bytes_only_where_weights_are_proven_small(
    scheme: str, instructions: set[str], case: Any
) -> None:
    layers = case("mixed").compile(plan_of(scheme), target="x86-avx2").layers
    dense = [layer for layer in layers if layer.macs]
    assert {layer.instruction for layer in dense if layer.op != "depthwise"} == instructions
    assert all(("two products" in layer.accumulator) == (scheme == "w6a8") for layer in dense)


def test_a_batch_is_its_samples_one_by_one(case: Any) -> None:
    mix = case("mixed")
    x = mix.samples[:3] * np.float32([1, 5, 0.2]).reshape(3, 1, 1, 1)
    single = mix.compile(plan_of("w8a8")).executable
    (together,) = run(mix.compile(plan_of("w8a8"), batch=3).executable, x)
    apart = np.concatenate([run(single, x[i : i + 1])[0] for i in range(3)])
    assert_same_bits([together], [apart])


@pytest.mark.parametrize(
    "options",
    [
        {"surrogate": "iid"},
        {"surrogate": "moments", "rule": "coverage", "coverage": 0.99},
        {"bits": "3,5"},
        {"correction": "static"},
        {"correction": "none"},
        {"per_channel": True},
        {"per_channel": True, "mode": "static"},
    ],
    ids=[
        "iid",
        "coverage",
        "predicted_bits",
        "static_correction",
        "no_correction",
        "channels",
        "static_channels",
    ],
)
def test_options_of_the_plan(options: dict[str, Any], case: Any) -> None:
    mix = case("mixed")
    check(mix.compile(plan_of("w6a8", **options), batch=3), mix.samples[:3])


@pytest.mark.parametrize("name", ["mixed", "swish", "own_residual", "products_of_tensors"])
def test_predicted_bits(name: str, case: Any) -> None:
    small = case(name)
    plan = plan_of("w8a8", bits="predicted", tolerance_db=30.0)
    compiled = small.compile(plan, batch=3)
    x = small.samples[:3] * np.float32([1, 0.1, 4]).reshape(3, *[1] * (small.samples.ndim - 1))
    check(compiled, x)
    normal, small_ones, large = picked_widths(compiled, x)
    assert all(a >= b for a, b in zip(normal, small_ones, strict=True))
    assert sum(small_ones) < sum(normal) < sum(large)
    check(compiled, np.zeros_like(x))
    assert min(min(widths) for widths in picked_widths(compiled, np.zeros_like(x))) < 8


@pytest.mark.parametrize("observer", ["percentile", "entropy", "mse"])
def test_static_observers(observer: str, case: Any) -> None:
    small = case("vectors")
    check(small.compile(plan_of("w8a8s", observer=observer)), small.samples[:1])


def test_layers_of_different_plans(case: Any) -> None:
    mix = case("mixed")
    names = [name for name, m in marked_tensors(mix.model(1).mod).items() if m.kind == "conv2d"]
    layers = {names[0]: LayerPlan(8, 6, "static"), names[1]: LayerPlan(4, 8, "dynamic")}
    check(mix.compile(Plan(layers=layers), batch=3), mix.samples[:3])


def test_a_float_layer_among_integer_ones(case: Any) -> None:
    mix = case("mixed")
    name = next(n for n, m in marked_tensors(mix.model(1).mod).items() if m.kind == "conv2d")
    compiled = mix.compile(Plan(layers={name: LayerPlan(mode="float")}))
    (found,) = run(compiled.executable, mix.samples[:1])
    (wanted,) = arrays(Simulator(mix.model(1).mod)(mix.samples[:1]))
    assert sqnr_db(found, wanted) > 25


def test_mode_float_is_the_model_itself(case: Any) -> None:
    mix = case("mixed")
    (found,) = run(mix.compile(plan_of("w8a8", "float")).executable, mix.samples[:1])
    (wanted,) = arrays(Simulator(mix.model(1).mod)(mix.samples[:1]))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_pipeline_in_a_foreign_build(case: Any) -> None:
    mix = case("mixed")
    profile = load_profile(BEST if load_profile(BEST).runs_here else "x86-64")
    mod = from_onnx(onnx.load(mix.path), shape_dict={"x": [1, 3, 9, 9]}, keep_params_in_input=False)
    canonical = tvm.transform.Sequential(canonical_passes())(mod)
    record = collect(canonical, (x[None] for x in mix.samples), CalibrationRecord("", ""))
    target = profile.target()
    passes = pipeline(plan_of("w8a8"), record, target)
    (found,) = run(tvm.compile(mod, target, relax_pipeline=passes), mix.samples[:1])
    compiled = mix.compile(plan_of("w8a8"), target=profile.name)
    assert_same_bits([found], run(compiled.executable, mix.samples[:1]))


@pytest.mark.parametrize("mode", MODES)
def test_unusual_inputs(mode: str, case: Any) -> None:
    mix = case("mixed")
    compiled = mix.compile(plan_of("w8a8", mode), batch=3)
    zeros = np.zeros_like(mix.samples[:3])
    check(compiled, zeros)
    constant = zeros + np.float32([1, -2, 0]).reshape(1, 3, 1, 1)
    check(compiled, constant)
    check(compiled, mix.samples[:3] * np.float32(1e-30))
    check(compiled, mix.samples[:3] * np.float32(1e6))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_values_that_are_not_finite_do_not_crash(mode: str, value: float, case: Any) -> None:
    small = case("points")
    compiled = small.compile(plan_of("w8a8", mode), batch=3)
    x = small.samples[:3].copy()
    x[1, 1] = value
    found = run(compiled.executable, x)
    clean = run(compiled.executable, small.samples[:3])
    assert found[0].shape == (3, 3)
    for sample in (0, 2):  # the others have their own parameters
        np.testing.assert_array_equal(found[0][sample], clean[0][sample])


@pytest.fixture(scope="module")
def digits_case() -> Case:
    """The bundled network."""
    calibration, _, _ = digits.load_split()
    return Case(digits.MODEL_PATH, calibration[:32])


@pytest.mark.parametrize("mode", MODES)
def test_bundled_network(mode: str, digits_case: Case) -> None:
    _, x, labels = digits.load_split()
    compiled = digits_case.compile(plan_of("w8a8", mode), batch=3)
    check(compiled, x[:3])
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    batches = [machine["main"](tvm.runtime.tensor(x[i : i + 3])).numpy() for i in range(0, 150, 3)]
    assert (np.concatenate(batches).argmax(1) == labels[:150]).mean() > 0.95


@pytest.mark.parametrize("mode", MODES)
def test_trained_resnet(mode: str, shared_data: Path, resnet: Case) -> None:
    compiled = resnet.compile(plan_of("w8a8", mode), batch=3)
    (found,) = check(compiled, resnet.samples[-3:])
    wanted = Simulator(resnet.model(3).mod)(resnet.samples[-3:])
    assert sqnr_db(found, wanted) > 20


@pytest.fixture(scope="module")
def resnet(shared_data: Path) -> Case:
    """A trained ResNet-20 with a few images."""
    card = load_card(shared_data / "cards" / "cifar10_resnet20.toml")
    (batch,) = model_inputs(card, "calibration", 6, 6)
    return Case(card.model, batch.x)


def test_trained_detector(shared_data: Path, detector: Case) -> None:
    compiled = detector.compile(plan_of("w8a8", "predicted"))
    kinds = {layer.op for layer in compiled.layers}
    assert kinds == {"input", "conv2d", "depthwise", "concat", "add"}
    assert all(layer.reason == "" for layer in compiled.layers)
    joined = {layer.surrogate for layer in compiled.layers if layer.op == "concat"}
    assert joined == {"exact, from the input's codes"}
    x = detector.samples[-1:]
    found = run(compiled.executable, x)
    exact = arrays(Simulator(compiled.integer_module)(x))
    for scores, wanted in zip(found[::2], exact[::2], strict=True):  # behind TVM's sigmoid
        np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-7)
    assert_same_bits(found[1::2], exact[1::2])
    wanted = arrays(Simulator(detector.model(1).mod)(x))
    assert min(map(sqnr_db, found, wanted)) > 12  # five images calibrate little


@pytest.fixture(scope="module")
def detector(shared_data: Path) -> Case:
    """NanoDet with a few images."""
    card = load_card(shared_data / "cards" / "coco_nanodet_m_320.toml")
    (batch,) = model_inputs(card, "calibration", 6, 6)
    return Case(card.model, batch.x)
