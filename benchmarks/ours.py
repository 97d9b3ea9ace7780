"""The contestants of this project: one model in every mode, and what the prediction costs in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_probq.build.compile import build, compile_model
from tvm_probq.build.compiled import Compiled
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.cards import Card, load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.passes.pipeline import kernel_passes
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import TargetProfile

MODES = ("float", "static", "dynamic", "predicted")
# Kernels that find a range or a correction before a layer runs; a layer's own kernel is none.
PREDICTION_KERNELS = (
    "predict", "sums", "patch_sums", "surrogate", "correction", "pool_range", "merge_ranges",
)  # fmt: skip
# Measures the network's input, which predicted mode does too and static mode does not.
OBSERVING_KERNELS = ("observe",)
PREFIX = "probq_"
MERGING = ("probq.GroupPredictions", "probq.PackConstants")  # passes that hide kernels in others
MS_PER_S = 1e3
EVALUATOR_CALLS = 200
EVALUATOR_REPEATS = 15

Array = Any


@dataclass(frozen=True)
class Subject:
    """A model with what calibrates it.

    Attributes
    ----------
    name : str
        Of the card or of the ONNX file.
    model : Model
        Imported with batch 1.
    samples : tuple of ndarray
        Calibration inputs ``[1, ...]``: those of the card, or random ones.
    random : bool
        Whether they are random.
    """

    name: str
    model: Model
    samples: tuple[Array, ...]
    random: bool

    @property
    def onnx(self) -> Path:
        """The ONNX file."""
        return Path(self.model.source)


def load_subject(path: Path, count: int) -> Subject:
    """Load a card (``.toml``) or an ONNX file, with `count` calibration inputs."""
    if path.suffix != ".toml":
        model = load_model(path)
        return Subject(path.stem, model, tuple(_random_inputs(model, count)), True)
    card = load_card(path)
    return Subject(card.name, load_model(card.model), tuple(_card_inputs(card, count)), False)


def _card_inputs(card: Card, count: int) -> Iterator[Array]:
    for batch in model_inputs(card, "calibration", 1, count):
        yield batch.x


def _random_inputs(model: Model, count: int) -> Iterator[Array]:
    (_, shape, dtype) = model.inputs[0]
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.standard_normal(shape).astype(dtype)


def calibrate(subject: Subject) -> CalibrationRecord:
    """Calibrate on the subject's samples."""
    record = CalibrationRecord(subject.model.sha256, "benchmark")
    return collect(subject.model.mod, subject.samples, record)


def compile_modes(
    subject: Subject, record: CalibrationRecord, scheme: str, profile: TargetProfile
) -> dict[str, Compiled]:
    """Compile the model in every mode."""
    return {
        mode: compile_model(subject.model, plan_of(scheme, mode), record, profile) for mode in MODES
    }


def caller(compiled: Compiled, x: Array) -> Callable[[], object]:
    """What to time: one call of the compiled module on a tensor that is already TVM's."""
    main = relax.VirtualMachine(compiled.executable, tvm.cpu())["main"]
    tensor = tvm.runtime.tensor(x)
    return lambda: main(tensor)


def kernels_ms(
    compiled: Compiled, profile: TargetProfile, x: Array, kinds: Collection[str]
) -> dict[str, float]:
    """Time of each call of some kinds of kernels in one run, by itself, in milliseconds.

    The module is built once more with prediction kernels of their own, not merged into the kernels
    that wait for them, and with each constant by itself. Each call is recorded with its arguments
    in one run, then repeated by TVM's evaluator in C++, so that code and data are in the caches and
    nothing is counted but the kernel.

    Returns
    -------
    dict of str to float
        By call, in order: ``"12 probq_predict5"``.
    """
    target = profile.target()
    passes = [p for p in kernel_passes(target) if p.info.name not in MERGING]
    lowered = tvm.transform.Sequential(passes)(compiled.integer_module)
    executable = build(lowered, target, ahead_of_time=False)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    calls: list[tuple[str, tuple[Any, ...]]] = []

    def note(_func: Any, name: str, before: bool, _result: Any, *args: Any) -> Any:
        if before and kind_of(name) in kinds:
            calls.append((name, args))
        return relax.VMInstrumentReturnKind.NO_OP

    machine.set_instrument(note)
    machine["main"](tvm.runtime.tensor(x))
    library = machine.module.imports[0]
    times = {}
    for index, (name, args) in enumerate(calls):
        evaluator = library.time_evaluator(
            name, tvm.cpu(), number=EVALUATOR_CALLS, repeat=EVALUATOR_REPEATS
        )
        times[f"{index} {name}"] = float(evaluator(*args).median) * MS_PER_S
    return times


def kind_of(name: str) -> str:
    """Kind of a small kernel, empty for others: ``predict`` of ``probq_predict5``."""
    if not name.startswith(PREFIX):
        return ""
    return name.removeprefix(PREFIX).rstrip("0123456789").removesuffix("_")
