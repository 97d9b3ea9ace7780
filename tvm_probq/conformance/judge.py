"""Take one case through import, calibration, compilation and a run, and say what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.ir import Call
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.build.compile import TVM_ERRORS, compile_model
from tvm_probq.calibration.collect import Sample, collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.conformance.cases import LAYER, Array, Case
from tvm_probq.errors import KernelError, ProbqError, UnsupportedError
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.ir.expressions import describe, is_call
from tvm_probq.ir.layers import moves_codes
from tvm_probq.ir.rewrite import bindings
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import TargetProfile

VARIATIONS = 3
FLOAT_TOLERANCE = (1e-3, 1e-5)  # relative and absolute, of TVM's operators
INTEGER_TOLERANCE = 4 / 255  # of the largest value: a few steps of 8 bits
CRASHES = (*TVM_ERRORS, LookupError, AttributeError, AssertionError, ArithmeticError)
NOT_IMPORTED = ("the model has operators that TVM cannot import", "TVM cannot import the model")


class Outcome(Enum):
    """What became of a case, the best first."""

    INTEGER = "integer"
    MOVES_CODES = "moves codes"
    FLOAT = "float"
    OTHER_VALUES = "other values"
    NOT_COMPILED = "not compiled"
    REFUSED = "refused"
    NOT_IMPORTED = "not imported"
    WRONG = "wrong"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a case, and why."""

    case: Case
    outcome: Outcome
    reason: str = ""


def judge(case: Case, folder: Path, profile: TargetProfile) -> Verdict:
    """Quantize a case in the predicted mode with 8 bits and compare it with what ONNX expects.

    `folder` takes the ONNX file.
    """
    path = folder / "case.onnx"
    path.write_bytes(case.proto.SerializeToString())
    try:
        model = load_model(path)
    except CRASHES as error:
        return Verdict(case, Outcome.WRONG, f"{type(error).__name__}: {error}")
    except ProbqError as error:
        outcome = Outcome.NOT_IMPORTED if error.what in NOT_IMPORTED else Outcome.REFUSED
        return Verdict(case, outcome, error.why if error.what in NOT_IMPORTED else error.what)
    try:
        found = _quantized_outputs(model, case.inputs, profile)
    except (UnsupportedError, KernelError) as error:
        return _unless_tvm_can(case, error)
    except ProbqError as error:
        return Verdict(case, Outcome.REFUSED, error.what)
    except CRASHES as error:
        return Verdict(case, Outcome.WRONG, f"{type(error).__name__}: {error}")
    outcome, reason = _kind(model)
    in_float = outcome is Outcome.FLOAT and case.variant != "layer"
    if _near(found, case.outputs, 0.0 if in_float else INTEGER_TOLERANCE * case.scale):
        return Verdict(case, outcome, reason)
    plain = _plain_outputs(case)
    if plain is None or not _near(plain, case.outputs, 0.0):
        return Verdict(case, Outcome.OTHER_VALUES, "TVM's own float code gives them too")
    return Verdict(case, Outcome.WRONG, "far from what ONNX expects, unlike TVM's float code")


def _quantized_outputs(
    model: Model, inputs: tuple[Array, ...], profile: TargetProfile
) -> list[Array]:
    samples = list(_samples(inputs))
    record = collect(model.mod, samples, CalibrationRecord(model.sha256, "node test"))
    compiled = compile_model(model, plan_of("w8a8", "predicted"), record, profile)
    return _outputs(compiled.executable, inputs)


def _samples(inputs: tuple[Array, ...]) -> Iterable[Sample]:
    """The inputs and random variations of them with the same signs, all finite."""
    rng = np.random.default_rng(0)
    for number in range(1 + VARIATIONS):
        yield tuple(_varied(x, rng if number else None) for x in inputs)


def _varied(x: Array, rng: np.random.Generator | None) -> Array:
    if x.dtype.kind != "f":
        return x
    factors = np.ones(x.shape) if rng is None else rng.uniform(0.5, 1.0, x.shape)
    return np.asarray(np.nan_to_num(x, posinf=1.0, neginf=-1.0) * factors, x.dtype)


def _outputs(executable: Any, inputs: Iterable[Array]) -> list[Array]:
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, inputs))
    several = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [np.asarray(y.numpy()) for y in several]


def _near(found: list[Array], wanted: Iterable[Any], slack: float) -> bool:
    """Whether outputs are those wanted, but for rounding and an error of `slack`."""
    relative, absolute = FLOAT_TOLERANCE
    return all(
        isinstance(w, np.ndarray)
        and (y.shape, y.dtype) == (w.shape, w.dtype)
        and np.allclose(y, w, rtol=relative, atol=absolute + slack, equal_nan=True)
        for y, w in zip(found, wanted, strict=True)
    )


def _kind(model: Model) -> tuple[Outcome, str]:
    """Whether the node is computed in integers, moves codes, or stays float and why."""
    markers = [m for n, m in marked_tensors(model.mod).items() if m.kind != "input" and n != LAYER]
    floats = [m for m in markers if not m.quantized]
    if any(m.layer is not None and m.quantized for m in markers):
        return Outcome.INTEGER, ""
    if floats:
        return Outcome.FLOAT, floats[0].reason
    if markers:
        return Outcome.INTEGER, ""
    calls = [b.value for b in bindings(model.mod["main"]) if isinstance(b.value, Call)]
    others = [c for c in calls if not moves_codes(c) and not is_call(c, "probq.layer", "matmul")]
    if others:
        return Outcome.FLOAT, f"{describe(others[0])}: no layer of constant weights reads it"
    return Outcome.MOVES_CODES, ""


def _unless_tvm_can(case: Case, error: ProbqError) -> Verdict:
    if _plain_outputs(case) is None:
        return Verdict(case, Outcome.NOT_COMPILED, f"{error.what}: {error.why}")
    return Verdict(case, Outcome.WRONG, f"{error.what}: {error.why}")


def _plain_outputs(case: Case) -> list[Array] | None:
    """Outputs of TVM's own float code, None where it has none."""
    try:
        mod = from_onnx(onnx.ModelProto.FromString(case.proto.SerializeToString()))
        return _outputs(tvm.compile(mod, "llvm"), case.inputs)
    except TVM_ERRORS:
        return None
