"""What is measured of this project: an artefact, or one model compiled in several modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import IRModule

from tvm_probq.build.artefact import Artefact
from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.link import link_library
from tvm_probq.build.manifest import Manifest
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import UsageError
from tvm_probq.frontend.onnx import Model
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.runner import load_library
from tvm_probq.target.profile import TargetProfile
from tvm_probq.tuning.database import shipped_database

Array = NDArray[Any]


@dataclass(frozen=True)
class Ours:
    """A compiled model of this project.

    Attributes
    ----------
    mode, scheme, target : str
        As in the manifest.
    load : callable
        Gives the function to time, which takes tensors of TVM; not called where a board runs it.
    peak_activation_bytes, parameter_bytes : int
        See `Compiled`.
    profile : TargetProfile
        What it was compiled for.
    integer : callable
        Gives the integer graph.
    library : callable
        Gives the shared library.
    tiles : callable
        Gives the loop sizes of its kernels that came from tuning.
    """

    mode: str
    scheme: str
    load: Callable[[], Any]
    peak_activation_bytes: int
    parameter_bytes: int
    profile: TargetProfile
    integer: Callable[[], IRModule]
    library: Callable[[], bytes]
    tiles: Callable[[], Tiles | None] = lambda: None

    def call(self, x: Array) -> Callable[[], object]:
        """What to time: one run on a tensor that is TVM's already."""
        main, tensor = self.load(), tvm.runtime.tensor(x)
        return lambda: main(tensor)


def of_artefact(artefact: Artefact, model: Model | None) -> Ours:
    """Load an artefact; without its float model `Ours.integer` cannot be asked."""
    said = artefact.manifest
    needs = said.target
    profile = TargetProfile(needs.name, "", needs.tvm_target, needs.features, "", (), ())

    def integer() -> IRModule:
        if model is None:
            raise ValueError("the integer graph is made from the float model")
        # The plan and the record give the same integer graph again.
        return quantized(model, artefact.plan, artefact.record)

    return Ours(
        said.mode, said.scheme, lambda: load_library(artefact.library, artefact.path)["main"],
        said.peak_activation_bytes, said.parameter_bytes, profile, integer,
        lambda: artefact.library, lambda: _tiles_of(said),
    )  # fmt: skip


def _tiles_of(said: Manifest) -> Tiles | None:
    """The tiles that an artefact was compiled with, as far as they came with this package."""
    shipped = shipped_database(said.target.name)
    if said.database in ("", shipped.identity):
        return shipped if said.database else None
    raise UsageError(
        "single kernels of this artefact cannot be timed",
        why=f"its loop sizes came from {said.database}, which is not the database shipped here",
        fix="leave out --layers, or compile it again with the shipped database",
    )


def of_model(
    model: Model,
    record: CalibrationRecord | None,
    modes: Sequence[str],
    scheme: str,
    profile: TargetProfile,
) -> dict[str, Ours]:
    """Compile a model in several modes, by mode, with the tuned tiles that come with the target."""
    tiles = shipped_database(profile.name)
    return {
        mode: _of_compiled(
            compile_model(model, plan_of(scheme, mode), record, profile, tiles), profile, tiles
        )
        for mode in modes
    }


def _of_compiled(compiled: Compiled, profile: TargetProfile, tiles: Tiles) -> Ours:
    triple = str(profile.tvm_target.get("mtriple", ""))
    return Ours(
        compiled.mode, compiled.scheme,
        lambda: relax.VirtualMachine(compiled.executable, tvm.cpu())["main"],
        compiled.peak_activation_bytes, compiled.parameter_bytes, profile,
        lambda: compiled.integer_module,
        lambda: link_library(compiled, triple), lambda: tiles,
    )  # fmt: skip
