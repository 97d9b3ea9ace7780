"""Kernels timed inside a network: the bundled one, on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.errors import KernelError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.latency import ticked as ticking
from tvm_probq.latency.kernels import COUNTS
from tvm_probq.latency.network import network_latency
from tvm_probq.latency.roofline import Roofline
from tvm_probq.latency.ticked import Ticked, call_here, lowered_calls, ticked, time_kernels
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import host_profile


@pytest.fixture(scope="module")
def lowered() -> Any:
    model = load_model(MODEL_PATH)
    images = load_split()[0][:8]
    record = CalibrationRecord(model.sha256, "digits")
    collect(model.mod, (x[None] for x in images), record)
    return lowered_calls(model, plan_of("w8a8"), record, host_profile().target(), None)


@pytest.fixture(scope="module")
def network(lowered: Any) -> Ticked:
    return ticked(lowered, host_profile().target())


def test_every_kernel_has_a_time(network: Ticked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticking, "LEAST_RUNS", 5)
    monkeypatch.setattr(ticking, "MOST_RUNS", 5)
    run = call_here(network.executable, [load_split()[0][:1]])
    times = time_kernels(run, network.calls)
    assert len(times) == len(network.kernels) > 6
    for time in times:
        assert 0 <= time.low_us <= time.us <= time.high_us


def test_layers_have_an_instruction_and_work(network: Ticked) -> None:
    layers = [k for k in network.kernels if k.instruction]
    assert len(layers) == 5  # a depthwise layer has no dot product
    for layer in layers:
        assert layer.count("constant_bytes") > 0
        assert layer.count("written_bytes") > 0
    assert any(layer.count("dots") > 0 for layer in layers)
    assert all(len(k.counts) == len(COUNTS) for k in network.kernels)


def test_the_results_are_those_without_ticks(lowered: Any, network: Ticked) -> None:
    from tvm_probq.build.compile import build

    images = [load_split()[0][:1]]
    plain = build(lowered, host_profile().target())
    (wanted,) = _outputs(plain, images)
    found, ticks = _outputs(network.executable, images)
    np.testing.assert_array_equal(found, wanted)
    assert ticks.shape == (len(network.kernels) + 1,)
    assert (np.diff(ticks) >= 0).all()


def _outputs(executable: Any, inputs: list[Any]) -> list[Any]:
    import tvm
    from tvm import relax

    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, inputs))
    return (
        [result.numpy()] if isinstance(result, tvm.runtime.Tensor) else [r.numpy() for r in result]
    )


def test_ticks_of_another_network_are_refused(network: Ticked) -> None:
    run = call_here(network.executable, [load_split()[0][:1]])
    with pytest.raises(KernelError, match="not those of its kernels"):
        time_kernels(run, [network.kernels[1:]])


def test_layers_and_the_rest_add_up(lowered: Any) -> None:
    target = host_profile().target()
    found = network_latency(lowered, target, Roofline(1e9, 1e9, 1.0), {})
    assert set(found.layers) >= {"stem", "block1", "block2", "depthwise", "pointwise", "logits"}
    assert sum(found.layers.values()) < found.total
    assert found.layers["stem"] == pytest.approx(1.0, rel=0.01)
