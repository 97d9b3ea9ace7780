"""Random networks: compiled code equals the simulator bit for bit.

``PROBQ_NETWORKS=500 pytest tests/test_random_networks.py`` takes 500 new ones.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tvm import relax

from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

spec = importlib.util.spec_from_file_location(
    "random_networks", Path(__file__).with_name("random_networks.py")
)
assert spec is not None
assert spec.loader is not None
random_networks = importlib.util.module_from_spec(spec)
sys.modules["random_networks"] = random_networks
spec.loader.exec_module(random_networks)

SAMPLES = 4
MOST_STEPS = 8
TARGETS = ("x86-vnni", "x86-avx2", "x86-64")
SCHEMES = ("w8a8", "w8a8", "w4a8", "w8a4", "w6a5")
MODES = ("predicted", "predicted", "static", "dynamic")

DEFAULT = 25
NETWORKS = int(os.environ.get("PROBQ_NETWORKS", DEFAULT))


@pytest.mark.slow
@settings(
    max_examples=NETWORKS, deadline=None, suppress_health_check=list(HealthCheck),
    derandomize=NETWORKS == DEFAULT, print_blob=True,
)  # fmt: skip
@given(data=st.data())
def test_compiled_code_equals_the_simulator(
    data: Any, onnx_net: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = data.draw
    is_image = draw(st.integers(0, 5)) > 0
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3 if is_image else 1))
    net = onnx_net(*shape, seed=draw(st.integers(0, 1000)))
    grown = random_networks.Grown(net, shape, draw)
    grown.grow(draw(st.integers(1, MOST_STEPS)))
    outputs = grown.outputs(draw(st.integers(1, 3)))
    batch, scheme, mode = (
        draw(st.integers(1, 3)), draw(st.sampled_from(SCHEMES)), draw(st.sampled_from(MODES))
    )  # fmt: skip
    for node in net.nodes:
        note(f"{node.op_type} {list(node.input)} -> {list(node.output)}")
    path = net.save(tmp_path_factory.mktemp("net"), *dict.fromkeys(outputs))
    samples = np.random.default_rng(3).normal(size=(SAMPLES, *shape)).astype(np.float32)
    single = load_model(path)
    record = collect(single.mod, (x[None] for x in samples), CalibrationRecord(single.sha256, ""))
    profile = next(p for p in map(load_profile, TARGETS) if p.runs_here)
    compiled = compile_model(load_model(path, batch=batch), plan_of(scheme, mode), record, profile)
    x = samples[:batch] * np.float32(1.5)
    wanted = arrays(Simulator(compiled.integer_module)(x))
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    for a, b in zip(arrays(machine["main"](tvm.runtime.tensor(x))), wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def arrays(outputs: Any) -> list[Any]:
    """Outputs of the simulator or of compiled code."""
    several = outputs if isinstance(outputs, tuple | list | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]
