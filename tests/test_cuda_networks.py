"""Whole networks on the emulated CUDA device: host code, launches, memory and kernels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from emulated_gpu import Device, compile_source, device
from networks import NETS, Case, arrays, assert_same_bits, case_of
from tvm import relax

from tvm_probq.build.artefact import DEVICE_IMAGE, DEVICE_SOURCE, load_artefact, save_artefact
from tvm_probq.build.compile import compile_model
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.device_code import CALLBACK, compile_on_load, keep_image
from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.errors import ArtefactError, EnvironmentProblem
from tvm_probq.kernels.cuda import nvcc
from tvm_probq.kernels.cuda.gate import MOST_SPILLED
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.runner import Runner
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile, profile_names

PROFILE = "cuda-sm80"
SCHEMES = ("w8a8s", "w4a4d", "w8a8p", "w4a8p", "w8a16p")


@pytest.fixture(scope="module")
def gpu() -> Device:
    return device()


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvcc: only the emulated device's compiler is asked; no image outlives its test."""
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", lambda: "")
    monkeypatch.setattr("tvm_probq.build.device_code._IMAGES", {})


@pytest.fixture(scope="module", params=NETS)
def case(
    request: pytest.FixtureRequest, onnx_net: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:  # fmt: skip
    return case_of(request.param, onnx_net, tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def mixed(onnx_net: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of("mixed", onnx_net, tmp_path_factory.mktemp("net"))


def check(compiled: Compiled, x: Any) -> None:
    machine = relax.VirtualMachine(compiled.executable, tvm.cuda(0))
    want = arrays(Simulator(compiled.integer_module)(x))
    for _ in range(2):  # the threads of a block run in either order
        found = machine["main"](tvm.runtime.tensor(np.ascontiguousarray(x), device=tvm.cuda(0)))
        assert_same_bits(arrays(found), want)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equals_the_simulator(gpu: Device, case: Case, scheme: str) -> None:
    plan = plan_of(scheme)
    before = gpu.launches
    compiled = compile_model(case.model(2), plan, case.record, load_profile(PROFILE))
    check(compiled, case.samples[:2])
    assert gpu.launches > before


@pytest.mark.parametrize("options", [{"surrogate": "iid"}, {"per_channel": True}])
def test_other_surrogates_equal_the_simulator(gpu: Device, mixed: Case, options: Any) -> None:
    plan = plan_of("w8a6p", **options)
    check(
        compile_model(mixed.model(3), plan, mixed.record, load_profile(PROFILE)), mixed.samples[:3]
    )


@pytest.mark.parametrize("scheme", ["w4g32a8p", "w6g64a8d", "w2g32a8s"])
def test_scales_of_groups_equal_the_simulator(
    gpu: Device, onnx_net: Callable[..., Any], tmp_path: Path, scheme: str
) -> None:
    broad = case_of("broad", onnx_net, tmp_path)
    compiled = compile_model(broad.model(2), plan_of(scheme), broad.record, load_profile(PROFILE))
    assert any(layer.weight_group for layer in compiled.layers)
    check(compiled, broad.samples[:2])


@pytest.mark.parametrize("scheme", ["w4a4s", "w8a4p"])
@pytest.mark.parametrize("options", [{}, {"surrogate": "iid"}])
def test_packed_activations(gpu: Device, mixed: Case, scheme: str, options: Any) -> None:
    plan = plan_of(scheme, storage="packed", **options)
    compiled = compile_model(mixed.model(3), plan, mixed.record, load_profile(PROFILE))
    assert any(layer.packed for layer in compiled.layers)
    check(compiled, mixed.samples[:3])


def saved(case: Case, path: Path) -> Compiled:
    plan, profile = plan_of("w8a8p"), load_profile(PROFILE)
    compiled = compile_model(case.model(2), plan, case.record, profile)
    save_artefact(compiled, plan, case.record, profile, path, model_sha256=case.model(2).sha256)
    return compiled


def test_an_artefact_runs(gpu: Device, mixed: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    compiled = saved(mixed, path)
    artefact = load_artefact(path)
    assert DEVICE_SOURCE in artefact.members
    assert DEVICE_IMAGE not in artefact.members
    with Runner(artefact) as runner:
        found = runner.run(mixed.samples[:2])
    assert_same_bits(found, arrays(Simulator(compiled.integer_module)(mixed.samples[:2])))
    layers = {report.op: report for report in compiled.layers}
    assert layers["conv2d"].instruction in ("mma.sync", "dp4a")
    assert layers["conv2d"].workspace_bytes == 0


def test_an_artefact_of_a_machine_without_a_device_runs(gpu: Device, tmp_path: Path) -> None:
    """TVM asks for an image of the very text that the artefact holds."""
    path = tmp_path / "model.probq"
    command = [sys.executable, "-m", "tvm_probq", "compile", str(MODEL_PATH), "--target", PROFILE]
    command += ["--random-calibration", "4", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    artefact, asked = load_artefact(path), []

    def compiled_on_load(code: str) -> bytes:
        asked.append(code)
        return compile_source(code)

    tvm_ffi.register_global_func(CALLBACK, compiled_on_load, override=True)
    try:
        with Runner(artefact) as runner:
            (logits,) = runner.run(np.zeros((1, 1, 8, 8), np.float32))
    finally:
        tvm_ffi.register_global_func(CALLBACK, compile_source, override=True)
    assert logits.shape == (1, 10)
    source = artefact.members[DEVICE_SOURCE].decode()
    assert set(asked) == {source}
    keep_image(source, b"an image")
    assert compile_on_load(source) == b"an image"


def test_too_little_memory_is_explained(gpu: Device, mixed: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    saved(mixed, path)
    with Runner(load_artefact(path)) as runner:
        arguments = {name: np.zeros(shape, np.float32) for name, shape, _ in runner.inputs}

        def fill() -> None:  # the memory that TVM keeps is used up first
            kept = [runner.prepare(arguments) for _ in range(100000)]
            assert kept

        with gpu.memory(0), pytest.raises(EnvironmentProblem, match="not enough memory"):
            fill()


def test_an_older_device_is_explained(gpu: Device, mixed: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.probq"
    saved(mixed, path)
    with (
        gpu.capability(7, 5),
        pytest.raises(ArtefactError, match="for sm_80, this device is sm_75"),
    ):
        Runner(load_artefact(path))


@pytest.mark.parametrize("name", [n for n in profile_names() if n.startswith("cuda-")])
def test_a_network_compiles_for_every_profile(
    gpu: Device, mixed: Case, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not nvcc.find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", nvcc.find_nvcc)
    compiled = compile_model(mixed.model(1), plan_of("w8a8p"), mixed.record, load_profile(name))
    assert compiled.device is not None
    assert compiled.device.program is not None
    arch = str(load_profile(name).tvm_target["arch"])
    assert f".target {arch}" in compiled.device.program.ptx


def test_device_code_of_a_network_compiles(
    gpu: Device, mixed: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not nvcc.find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    monkeypatch.setattr("tvm_probq.build.device_code.find_nvcc", nvcc.find_nvcc)
    path = tmp_path / "model.probq"
    compiled = saved(mixed, path)
    assert compiled.device is not None
    assert compiled.device.program is not None
    assert all(use.spilled_bytes <= MOST_SPILLED for use in compiled.device.program.uses.values())
    assert len(load_artefact(path).members[DEVICE_IMAGE]) > 1000


@pytest.mark.parametrize(
    ("name", "scheme", "storage"),
    [
        ("cifar10_resnet20", "w8a8p", "bytes"),
        ("cifar10_resnet20", "w4a4p", "packed"),
        ("imagenet_mobilenet_v1_075", "w8a8p", "bytes"),
    ],
)
def test_trained_networks_equal_the_simulator(
    gpu: Device, shared_data: Path, name: str, scheme: str, storage: str
) -> None:
    card = load_card(shared_data / "cards" / f"{name}.toml")
    (batch,) = model_inputs(card, "calibration", 2, 2)
    network = Case(card.model, np.asarray(batch.x))
    before = gpu.launches
    plan, profile = plan_of(scheme, storage=storage), load_profile(PROFILE)
    compiled = compile_model(network.model(1), plan, network.record, profile)
    check(compiled, network.samples[:1])
    assert gpu.launches > before
    int4 = {"mma.u4.s4"} & {layer.instruction for layer in compiled.layers}
    assert bool(int4) == (storage == "packed")
