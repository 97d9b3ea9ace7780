"""Models that are quantized already, from the command line to results."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import numpy_helper
from tvm import relax

from tvm_probq.build.artefact import load_artefact
from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.cli import bench
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.runner import Runner
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

Run = Callable[..., Any]
SHAPE = (3, 9, 9)
SCALE = 0.05


class Quantizer:
    """Appends layers with codes of weights to a network, their results stored by pairs."""

    def __init__(self, net: Any, zero: Any, *, channels: bool = True) -> None:
        self.net, self.zero, self.channels = net, zero, channels

    def store(self, x: str, scale: float = SCALE, low: bool = False) -> str:
        """A pair; with `low`, of values from 0 on."""
        limits = np.iinfo(self.zero.dtype)
        zero = self.zero.dtype.type(limits.min) if low else self.zero
        return str(self.net.pair(x, scale, zero))

    def weights(self, *shape: int) -> str:
        scale = None if self.channels else np.float32(0.02 / np.prod(shape[1:]) ** 0.5)
        return str(self.net.coded(*shape, scale=scale))

    def conv(self, x: str, inputs: int, outputs: int, name: str, **attributes: Any) -> str:
        weights = self.weights(outputs, inputs // attributes.get("group", 1), 3, 3)
        codes = self.net.exact(self.net.rng.integers(-99, 99, outputs).astype(np.int32))
        zero = self.net.exact(np.zeros(outputs, np.int32))
        scale = self.net.exact(np.full(outputs, 0.002, np.float32))
        bias = self.net("DequantizeLinear", codes, scale, zero, axis=0)
        return str(self.net("Conv", x, weights, bias, name=name, pads=[1] * 4, **attributes))


def network(net: Any, zero: Any, *, channels: bool = True) -> str:
    """Residual addition, depthwise layer, both poolings, a dense layer."""
    q = Quantizer(net, zero, channels=channels)
    stem = q.store(net("Relu", q.conv(q.store("x"), 3, 16, "stem")), low=True)
    branch = q.store(q.conv(stem, 16, 16, "branch"))
    block = q.store(net("Relu", net("Add", branch, stem)), 0.07, low=True)
    depthwise = q.conv(block, 16, 16, "depthwise", group=16, strides=[2, 2])
    clipped = net("Clip", depthwise, np.float32(0), np.float32(6))
    pooled = net("MaxPool", q.store(clipped, 0.02, low=True), kernel_shape=[2, 2])
    wide = q.store(net("Relu", q.conv(q.store(pooled, 0.02, low=True), 16, 24, "wide")), low=True)
    flat = net("Flatten", q.store(net("GlobalAveragePool", wide), 0.01, low=True))
    weights = net.coded(10, 24, scale=None if channels else np.float32(0.005))
    return q.store(net("Gemm", flat, weights, net.draw(10), transB=1, name="head"), 0.02)


def inputs(count: int) -> Any:
    return np.random.default_rng(3).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The function that saves the network with codes of a type."""

    @cache
    def save(dtype: str = "int8", channels: bool = True) -> Path:
        net = onnx_net(*SHAPE, seed=4)
        zero = np.int8(-10) if dtype == "int8" else np.uint8(118)
        folder = tmp_path_factory.mktemp("quantized")
        np.savez(folder / "inputs.npz", x=inputs(16))
        return net.save(folder, network(net, zero, channels=channels))

    return save


@pytest.mark.parametrize("channels", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_it_equals_onnxruntime(dtype: str, channels: bool, saved: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the reference")
    path, x = saved(dtype, channels), inputs(16)
    session = onnxruntime.InferenceSession(path)
    wanted = session.run(None, {"x": x})[0]
    model = load_model(path, batch=16)
    for mod in (quantized(model, plan_of("w8a8", "static"), None), model.mod):
        steps = np.abs(Simulator(mod)(x) - wanted) / np.float32(0.02)
        assert steps.max() < 1.01
        assert (steps < 0.01).mean() > 0.9
    assert len(np.unique(wanted)) > 20


@pytest.mark.parametrize("target", ["x86-64", "x86-vnni"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_compiled_code_gives_the_simulators_bits(dtype: str, target: str, saved: Any) -> None:
    profile, x = load_profile(target), inputs(3)
    if not profile.runs_here:
        pytest.skip(f"this CPU lacks instructions of {target}")
    compiled = compile_model(load_model(saved(dtype), batch=3), plan_of("w8a8s"), None, profile)
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(x)).numpy()
    wanted = np.asarray(Simulator(compiled.integer_module)(x))
    np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))


def test_a_signed_and_an_unsigned_file_are_the_same(saved: Any) -> None:
    x, plan = inputs(4), plan_of("w8a8s")
    found = [
        Simulator(quantized(load_model(saved(dtype), batch=4), plan, None))(x)
        for dtype in ("int8", "uint8")
    ]
    np.testing.assert_array_equal(*found)


def test_compile_needs_no_data(run: Run, saved: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.probq"
    done = run("compile", saved(), "-o", out, "--batch", 2)
    assert done.status == 0, done.error
    assert (done.json["mode"], done.json["scheme"]) == ("static", "w8a8")
    assert done.json["keeps_parameters"]
    assert "those of the ONNX file" in done.out
    x, artefact = inputs(4), load_artefact(out)
    (found,) = Runner(artefact).run(x)
    module = quantized(load_model(saved(), batch=4), plan_of("w8a8s"), None)
    np.testing.assert_array_equal(found, Simulator(module)(x))
    layers = {layer.name: layer for layer in artefact.manifest.layers}
    assert list(layers) == ["x", "stem", "branch", "add", "depthwise", "wide", "pool", "head"]
    assert {(layer.mode, layer.surrogate) for layer in layers.values()} == {
        ("static", "from the file")
    }
    shown = run("inspect", out)
    assert "from the file" in shown.out
    assert shown.json["calibration_samples"] == 0


OPTIONS: dict[str, list[str]] = {
    "mode": ["--mode", "predicted"], "scheme": ["--scheme", "w4a8"], "skip": ["--skip", "stem"],
    "data": ["--data", "inputs.npz"], "random-calibration": ["--random-calibration", "4"],
    "rounding": ["--rounding", "nearest"], "per-channel": ["--per-channel"],
    "bits": ["--bits", "predicted"], "tolerance-db": ["--tolerance-db", "6"],
    "calibration": ["--calibration", "record.json"],
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_the_file_decides(run: Run, saved: Any, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.probq"
    done = run("compile", saved(), "-o", out, *OPTIONS[name])
    assert done.status == 2
    assert f"--{name} is given, but the model is quantized already" in done.error
    assert "--requantize" in done.error
    assert not out.exists()


def test_there_is_nothing_to_calibrate(run: Run, saved: Any, tmp_path: Path) -> None:
    data = ["--data", saved().parent / "inputs.npz"]
    done = run("calibrate", saved(), *data, "-o", tmp_path / "record.json")
    assert done.status == 2
    assert "nothing to calibrate" in done.error
    assert "--requantize" in done.error


def float_model(path: Path, folder: Path) -> Path:
    """The network without pairs, its weights dequantized, by the tests' own code."""
    proto = onnx.load(path)
    tensors = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    same, nodes = {}, []
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            codes, scale = tensors[node.input[0]], tensors[node.input[1]]
            shape = (-1,) + (1,) * (codes.ndim - 1)
            real = codes.astype(np.float32) * (scale.reshape(shape) if scale.ndim else scale)
            proto.graph.initializer.append(numpy_helper.from_array(real, node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            node.input[:] = [same.get(name, name) for name in node.input]
            nodes.append(node)
    proto.graph.output[0].name = same[proto.graph.output[0].name]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, folder / "float.onnx")
    return folder / "float.onnx"


def test_requantize_is_quantizing_the_float_model(run: Run, saved: Any, tmp_path: Path) -> None:
    data, record = ["--data", saved().parent / "inputs.npz"], tmp_path / "record.json"
    assert run("calibrate", saved(), "--requantize", *data, "-o", record).status == 0
    paths = [tmp_path / name for name in ("requantized.probq", "of_record.probq", "float.probq")]
    for path, model, options in zip(
        paths,
        (saved(), saved(), float_model(saved(), tmp_path)),
        (["--requantize", *data], ["--requantize", "--calibration", record], data),
        strict=True,
    ):
        done = run("compile", model, *options, "-o", path)
        assert done.status == 0, done.error
        assert done.json["mode"] == "predicted"
        assert not done.json["keeps_parameters"]
    again, of_record, of_float = (load_artefact(path) for path in paths)
    assert again.manifest.layers == of_record.manifest.layers == of_float.manifest.layers
    found = [Runner(artefact).run(inputs(4))[0] for artefact in (again, of_record, of_float)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert again.manifest.model_sha256 == load_model(saved()).sha256


def test_eval_runs_the_file_or_what_it_stands_for(
    run: Run, digits: Path, onnx_net: Any, tmp_path: Path
) -> None:
    net = onnx_net(1, 8, 8)
    q = Quantizer(net, np.int8(0))
    x = q.store(net("Relu", q.conv(q.store("x", 1 / 127), 1, 8, "first")), low=True)
    path = net.save(tmp_path, net.gemm(net("Flatten", x), 512, 10))
    card = ["--card", digits / "card.toml", "--limit", 48]
    kept, stripped = run("eval", path, *card), run("eval", path, *card, "--requantize")
    assert (kept.json["mode"], kept.json["scheme"]) == ("static", "from the file")
    assert stripped.json["mode"] == "float"
    out = tmp_path / "out.probq"
    assert run("compile", path, "-o", out).status == 0
    done = run("eval", out, *card, "--reference", path)
    assert done.status == 0, done.error
    assert done.json["agreement"] > 0.95
    reason = load_artefact(out).manifest.layers[-1].reason
    assert reason == "the file has no parameters for its weights"


def test_tune_needs_no_calibration_either(run: Run, saved: Any, tmp_path: Path) -> None:
    options = ["--database", tmp_path / "db.json", "--minutes", "0.01", "--target", "x86-64"]
    done = run("tune", saved(), *options)
    assert done.status == 0, done.error
    assert len(done.json["layers"]) >= 4


def test_bench_takes_float_models(run: Run, saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "use_threads", lambda threads: threads)  # TVM is here already
    done = run("bench", saved(), "--against", "none")
    assert done.status == 2
    assert "quantized already" in done.error
    assert "the float model" in done.error
