"""Shared libraries of this project for an emulated CPU: an artefact's, and TVM's float code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_probq.errors import UsageError

if TYPE_CHECKING:
    from tvm_probq.build.manifest import Manifest

FLOAT = "tvm-fp32"


def calibrate(card: Path, samples: int, work: Path) -> Path:
    """A calibration record of a card's model."""
    record = work / f"{card.stem}.record.json"
    record.unlink(missing_ok=True)
    _command("calibrate", "--card", card, "--samples", samples, "-o", record)
    return record


def compile_artefact(card: Path, record: Path, mode: str, profile: str, work: Path) -> Path:
    """An artefact of a card's model."""
    artefact = work / f"{card.stem}-{mode}-{profile}.probq"
    options = [] if mode == "float" else ["--calibration", record]
    _command(
        "compile", "--card", card, *options, "--mode", mode, "--target", profile, "-o", artefact
    )
    return artefact


def library_of(artefact: Path, work: Path) -> tuple[Path, Manifest]:
    """An artefact's library as a file, and what the artefact says of itself."""
    from tvm_probq.build.artefact import load_artefact

    loaded = load_artefact(artefact, to_run=False)
    library = work / f"{artefact.stem}.so"
    library.write_bytes(loaded.library)
    return library, loaded.manifest


def float_library(model: Path, profile_name: str, work: Path) -> Path:
    """TVM's float32 code of a model with register tiles: `tvm-fp32` of ``tvm-probq bench``."""
    import tvm

    from tvm_probq.bench.peers.tvm_fp32 import compile_kernels
    from tvm_probq.bench.peers.tvm_graph import NEON, float_kernels
    from tvm_probq.bench.peers.tvm_schedule import schedule_all, target_of
    from tvm_probq.build.linker import find_linker
    from tvm_probq.frontend.onnx import load_model
    from tvm_probq.target.profile import load_profile

    profile = load_profile(profile_name)
    mod, _, _ = schedule_all(float_kernels(load_model(model).mod, NEON))
    executable = compile_kernels(mod, target_of(tvm.target.Target(profile.target().export()), 1))
    library = work / f"{model.stem}-{FLOAT}-{profile_name}.so"
    triple = str(profile.tvm_target["mtriple"])
    executable.export_library(str(library), fcompile=find_linker(triple))
    return library


def _command(*arguments: object) -> None:
    command = [sys.executable, "-m", "tvm_probq", *map(str, arguments), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"`tvm-probq {arguments[0]}` failed", why=done.stderr.strip()[-800:])
