"""From a network of a family to compiled code, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx.reference import ReferenceEvaluator
from tvm import relax

from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

SAMPLES = 8
TARGETS = ("x86-vnni", "x86-avx2", "x86-64")


@dataclass(frozen=True)
class Found:
    """What compilation in w8a8 predicted gave.

    Attributes
    ----------
    share : float
        Of the multiply-accumulates, in integers.
    noise_db : float
        Smallest signal-to-noise ratio of an output against float.
    reasons : list of str
        Of each float island, none twice.
    """

    share: float
    noise_db: float
    reasons: list[str]


@pytest.fixture
def check_family(onnx_net: Any, tmp_path: Path) -> Callable[..., Found]:
    """Compile a network; check it against the simulator, and its import against ONNX."""

    def check(build: Any, shape: tuple[int, ...], *, opset: int = 17, exact: bool = True) -> Found:
        net = onnx_net(*shape, opset=opset)
        path = net.save(tmp_path, *build(net))
        model = load_model(path)
        rng = np.random.default_rng(1)
        samples = rng.normal(size=(SAMPLES, 1, *shape)).astype(np.float32)
        record = collect(model.mod, samples, CalibrationRecord(model.sha256, ""))
        profile = next(p for p in map(load_profile, TARGETS) if p.runs_here)
        compiled = compile_model(model, plan_of("w8a8"), record, profile)
        x = rng.normal(size=(1, *shape)).astype(np.float32)
        real = arrays(Simulator(model.mod)(x))
        for y, wanted in zip(
            real, ReferenceEvaluator(onnx.load(path)).run(None, {"x": x}), strict=True
        ):
            np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
        machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
        codes = arrays(machine["main"](tvm.runtime.tensor(x)))
        for y, wanted in zip(codes, arrays(Simulator(compiled.integer_module)(x)), strict=True):
            if exact:
                np.testing.assert_array_equal(y.view(np.int32), wanted.view(np.int32))
            else:
                np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=0.02 * np.abs(wanted).max())
        return Found(
            compiled.integer_macs / compiled.macs,
            min(decibels(y, wanted) for y, wanted in zip(codes, real, strict=True)),
            list(dict.fromkeys(island.reason for island in compiled.islands)),
        )

    return check


def decibels(y: Any, wanted: Any) -> float:
    """Signal-to-noise ratio."""
    return float(10 * np.log10((wanted**2).mean() / ((y - wanted) ** 2).mean()))


def arrays(outputs: Any) -> list[Any]:
    """Outputs of the simulator or of compiled code."""
    several = outputs if isinstance(outputs, tuple | list | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]
