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
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.build.compile import compile_model
from tvm_probq.build.compiled import Compiled
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.demo import digits
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.passes.pipeline import canonical_passes, pipeline
from tvm_probq.plan.plan import LayerPlan, Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

MODES = ("static", "dynamic", "predicted")
SCHEMES = ("w8a8", "w8a6", "w8a4", "w4a8", "w4a4", "w6a8")
BEST = "x86-vnni"


def mixed(net: Any) -> tuple[str, ...]:
    """Convolutions with normalization, a residual, a depthwise layer, pooling, a dense layer."""
    stem = net("Relu", net.batch_norm(net.conv("x", 3, 16), 16))
    block = net("Relu", net("Add", net.conv(stem, 16, 16), stem))
    depthwise = net(
        "Clip", net.conv(block, 16, 16, group=16, strides=[2, 2]), np.float32(0), np.float32(6)
    )
    wide = net("Relu", net.conv(depthwise, 16, 24, 1))
    return (net.gemm(net("Flatten", net("GlobalAveragePool", wide)), 24, 10),)


def joined(net: Any) -> tuple[str, ...]:
    """A join of branches of different ranges."""
    parts = net("Relu", net.conv("x", 3, 8)), net("HardSwish", net.conv("x", 3, 4, 1))
    return (net.conv(net("Concat", *parts, axis=1), 12, 5),)


def own_residual(net: Any) -> tuple[str, ...]:
    """Layers whose residual is their input, or is read again, also through a reshape."""
    x = net("Relu", net.conv("x", 3, 8))
    y = net("Relu", net("Add", net.conv(x, 8, 8), x))
    z = net("Relu", net("Add", net.conv(net("Relu", net.conv(y, 8, 8)), 8, 8), y))
    last = net("Add", net.conv(z, 8, 8, 1), net("Relu", net.conv(y, 8, 8, 1)))
    return net.gemm(net("Flatten", last), 512, 4), net.gemm(net("Flatten", z), 512, 2)


def pooled(net: Any) -> tuple[str, ...]:
    """Maximum pooling with padding, then a flattened image."""
    x = net("MaxPool", net.conv("x", 3, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    return (net.gemm(net("Flatten", net("Relu", x)), 128, 5),)


def swish(net: Any) -> tuple[str, ...]:
    """Hard-swish behind dense and depthwise layers, and a sum of two branches."""
    x = net("HardSwish", net.conv("x", 3, 8))
    y = net("HardSwish", net.conv(x, 8, 8, group=8))
    return (net.conv(net("Sum", net.conv(y, 8, 8, 1), x), 8, 4),)


def grouped(net: Any) -> tuple[str, ...]:
    """Groups, dilation, a padded and a sliced tensor."""
    x = net("Relu", net.conv("x", 3, 16))
    x = net("Relu", net.conv(x, 16, 16, group=2, dilations=[2, 2], pads=[2] * 4))
    x = net("Pad", x, [0, 0, 1, 2, 0, 0, 0, 1])
    return (net.conv(net("Slice", x, [0], [12], [1]), 12, 8, group=4, strides=[2, 1]),)


def two_outputs(net: Any) -> tuple[str, ...]:
    """An inner tensor is an output as well."""
    x = net("Relu", net.conv("x", 3, 8))
    return net.conv(x, 8, 4, 1), net.gemm(net("Flatten", net("GlobalAveragePool", x)), 8, 3)


def shuffled(net: Any) -> tuple[str, ...]:
    """Halves of channels that are joined and shuffled, a pyramid of two scales, several outputs."""
    x = net("LeakyRelu", net.conv("x", 3, 8), alpha=0.1)
    kept, changed = net("Slice", x, [0], [4], [1]), net("Slice", x, [4], [9999], [1])
    changed = net("LeakyRelu", net.conv(changed, 4, 4), alpha=0.1)
    split = net("Reshape", net("Concat", kept, changed, axis=1), [0, 2, 4, 8, 8])
    x = net("Reshape", net("Transpose", split, perm=[0, 2, 1, 3, 4]), [0, 8, 8, 8])
    small = net.conv(x, 8, 8, strides=[2, 2])
    large = net(
        "Add", net.conv(x, 8, 8, 1), net("Resize", small, "", [1.0, 1, 2, 2], mode="linear")
    )
    small = net("Add", small, net("Resize", large, "", [1.0, 1, 0.5, 0.5], mode="nearest"))
    heads = net.conv(large, 8, 6, 1), net.conv(net("LeakyRelu", small), 8, 6, 1)
    rows = (net("Reshape", net("Slice", h, [0], [5], [1]), [0, 5, -1]) for h in heads)
    return tuple(net("Transpose", r, perm=[0, 2, 1]) for r in rows)


def points(net: Any) -> tuple[str, ...]:
    """Images of one pixel."""
    x = net("Relu", net.conv("x", 3, 8))
    return (net.gemm(net("Flatten", net.conv(x, 8, 5, 1)), 5, 3),)


def vectors(net: Any) -> tuple[str, ...]:
    """Fully connected layers alone."""
    return (net.gemm(net("Relu", net.gemm("x", 24, 40)), 40, 7),)


def rows(net: Any, x: str, inputs: int, outputs: int) -> str:
    """A linear layer at every position."""
    return net("Add", net("MatMul", x, net.draw(inputs, outputs, scale=0.4)), net.draw(outputs))


def products_of_tensors(net: Any) -> tuple[str, ...]:
    """Attention without softmax, of two heads, with a residual and a feed-forward part."""
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        split = net("Reshape", rows(net, "x", 8, 8), [0, 6, 2, 4])
        heads.append(net("Transpose", split, perm=perm))
    scores = net("MatMul", *heads[:2])
    mixed = net("Transpose", net("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    inner = net("Add", rows(net, net("Reshape", mixed, [0, 6, 8]), 8, 8), "x")
    wide = net("Relu", rows(net, inner, 8, 12))
    return (rows(net, net("Add", rows(net, wide, 12, 8), inner), 8, 3),)


def one_dimensional(net: Any) -> tuple[str, ...]:
    """Convolutions along one axis."""
    x = net("Relu", net("Conv", "x", net.draw(8, 3, 5, scale=0.3), net.draw(8), pads=[2, 2]))
    y = net("Conv", x, net.draw(8, 1, 3, scale=0.5), group=8, pads=[2, 2], dilations=[2])
    z = net("Conv", net("Add", y, x), net.draw(6, 8, 1, scale=0.3), strides=[2])
    return (net("Conv", net("Relu", z), net.draw(4, 6, 3, scale=0.3), net.draw(4)),)


NETS: dict[str, tuple[Callable[[Any], tuple[str, ...]], tuple[int, ...]]] = {
    "mixed": (mixed, (3, 9, 9)), "joined": (joined, (3, 8, 8)),
    "own_residual": (own_residual, (3, 8, 8)), "pooled": (pooled, (3, 8, 8)),
    "swish": (swish, (3, 8, 8)), "grouped": (grouped, (3, 8, 8)),
    "shuffled": (shuffled, (3, 8, 8)), "two_outputs": (two_outputs, (3, 8, 8)),
    "points": (points, (3, 1, 1)), "vectors": (vectors, (24,)),
    "products_of_tensors": (products_of_tensors, (6, 8)),
    "one_dimensional": (one_dimensional, (3, 21)),
}  # fmt: skip


class Case:
    """A network with its calibration, and inputs."""

    def __init__(self, path: Path, samples: Any) -> None:
        self.path = path
        self.samples = samples
        self.model = cache(lambda batch: load_model(path, batch=batch))
        empty = CalibrationRecord(self.model(1).sha256, "")
        self.record = collect(self.model(1).mod, (x[None] for x in samples), empty)
        self.compiled: dict[tuple[str, int, str], Compiled] = {}

    def compile(self, plan: Plan, batch: int = 1, target: str = BEST) -> Compiled:
        """Compile for a target, once; skips on a CPU without its instructions."""
        profile = load_profile(target)
        if not profile.runs_here:
            pytest.skip(f"this CPU lacks instructions of {target}: {', '.join(profile.features)}")
        key = plan.to_toml(), batch, target
        if key not in self.compiled:
            model: Model = self.model(batch)
            self.compiled[key] = compile_model(model, plan, self.record, profile)
        return self.compiled[key]


def arrays(outputs: Any) -> list[Any]:
    """Outputs of the simulator or of compiled code."""
    several = outputs if isinstance(outputs, tuple | list | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]


def run(executable: Any, x: Any) -> list[Any]:
    """Outputs of compiled code."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return arrays(machine["main"](tvm.runtime.tensor(np.ascontiguousarray(x))))


def assert_same_bits(found: list[Any], wanted: list[Any]) -> None:
    """Bitwise equality, also of the signs of zeros and of NaN."""
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype) == (b.shape, np.float32)
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def check(compiled: Compiled, x: Any) -> list[Any]:
    """Run compiled code, compare with the simulator; gives the outputs."""
    found = run(compiled.executable, x)
    assert_same_bits(found, arrays(Simulator(compiled.integer_module)(x)))
    return found


def sqnr_db(found: Any, wanted: Any) -> float:
    """Signal-to-noise ratio."""
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


@pytest.fixture(scope="module")
def case(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The function that makes a network's case once."""

    @cache
    def make(name: str) -> Case:
        build, shape = NETS[name]
        net = onnx_net(*shape)
        path = net.save(tmp_path_factory.mktemp(name), *build(net))
        samples = np.random.default_rng(5).normal(size=(8, *shape)).astype(np.float32)
        return Case(path, samples)

    return make


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
        {"bits_from": (4, 6, 8)},
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
