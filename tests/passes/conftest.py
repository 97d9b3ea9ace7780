"""What every pass must satisfy, and small modules to apply it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import op_name, shape_of
from tvm_probq.ir.rewrite import bindings, clean
from tvm_probq.passes.pipeline import canonical_passes, quantize_passes
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

Calls = list[str]


def calls(mod: Any) -> Calls:
    """Operators called by ``main`` in order, without the ``relax.`` prefix."""
    names = (op_name(binding.value) for binding in bindings(mod["main"]))
    return [name.removeprefix("relax.") for name in names if name]


@pytest.fixture(scope="session")
def calls_of() -> Callable[[Any], Calls]:
    """The function that lists the operators a module calls."""
    return calls


def run(mod: Any, seed: int = 0) -> list[Any]:
    """Outputs of a module for random inputs."""
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=shape_of(p)).astype(np.float32) * 3 for p in mod["main"].params]
    found = Simulator(mod)(*inputs)
    return list(found) if isinstance(found, tuple) else [found]


@pytest.fixture(scope="session")
def apply() -> Callable[..., Any]:
    """Apply a pass; check that the result is well formed, equivalent, and a fixed point."""

    def check(change: Any, mod: Any, *, numeric: bool = True) -> Any:
        after = change(mod)
        tvm.relax.analysis.well_formed(after)
        tvm.ir.assert_structural_equal(change(after), after)
        if numeric:
            for new, old in zip(run(after), run(mod), strict=True):
                assert new.shape == old.shape
                np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)
        return after

    return check


@pytest.fixture(scope="session")
def unchanged() -> Callable[..., None]:
    """Check that a pass leaves a module as it is."""

    def check(change: Any, mod: Any) -> None:
        tvm.ir.assert_structural_equal(change(mod), clean(mod))

    return check


@pytest.fixture(scope="session")
def imported() -> Callable[..., Any]:
    """The module of an ONNX graph, after the first `steps` canonical passes, all if it is None."""

    def make(net: Any, *outputs: str, steps: int | None = 0, batch: int = 1) -> Any:
        proto = net.proto(*(outputs or net.nodes[-1].output[:1]))
        dims = proto.graph.input[0].type.tensor_type.shape.dim[1:]
        shape = [batch, *(d.dim_value for d in dims)]
        mod = from_onnx(proto, shape_dict={"x": shape}, keep_params_in_input=False)
        return tvm.transform.Sequential(canonical_passes()[:steps])(mod)

    return make


@pytest.fixture(scope="session")
def calibrated() -> Callable[..., CalibrationRecord]:
    """The record of an annotated module on random samples."""

    def make(mod: Any, samples: int = 4) -> CalibrationRecord:
        rng = np.random.default_rng(1)
        shape = shape_of(mod["main"].params[0])
        data = [rng.normal(size=shape).astype(np.float32) for _ in range(samples)]
        return collect(mod, data, CalibrationRecord("", ""))

    return make


@pytest.fixture(scope="session")
def annotated_net(onnx_net: Any, imported: Any, calibrated: Any) -> tuple[Any, CalibrationRecord]:
    """A small canonical network with every kind of layer, and its record."""
    net = onnx_net(3, 8, 8)
    stem = net("Relu", net.batch_norm(net.conv("x", 3, 8), 8))
    inner = net("Relu", net.conv(stem, 8, 8))
    block = net("Relu", net("Add", net.conv(inner, 8, 8), stem))
    depthwise = net("HardSwish", net.conv(block, 8, 8, group=8, strides=[2, 2]))
    wide = net(
        "Concat", depthwise, net("MaxPool", block, kernel_shape=[2, 2], strides=[2, 2]), axis=1
    )
    pooled = net("Flatten", net("GlobalAveragePool", net.conv(wide, 16, 8, 1)))
    net.gemm(pooled, 8, 5)
    mod = imported(net, steps=None)
    return mod, calibrated(mod)


@pytest.fixture(scope="session")
def integer_net(annotated_net: Any) -> Callable[..., Any]:
    """The function that quantizes the small network by a plan."""
    mod, record = annotated_net

    def make(scheme: str = "w8a8", mode: str = "predicted", **options: Any) -> Any:
        passes = quantize_passes(plan_of(scheme, mode, **options), record)
        return tvm.transform.Sequential(passes)(mod)

    return make


@pytest.fixture(scope="session")
def target() -> Any:
    """A target that every x86-64 machine can run."""
    return load_profile("x86-64").target()


def kernels(mod: Any) -> list[tuple[Any, Any]]:
    """Calls of kernels in order, with their PrimFuncs."""
    values = [b.value for b in bindings(mod["main"])]
    found = [v for v in values if op_name(v).startswith("relax.call_tir")]
    return [(call, mod[call.args[0]]) for call in found]


@pytest.fixture(scope="session")
def kernels_of() -> Callable[[Any], list[tuple[Any, Any]]]:
    """The function that lists the kernel calls of a module."""
    return kernels
