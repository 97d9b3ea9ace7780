"""Whether an artefact runs here: the installed TVM, the processor and its features."""

from __future__ import annotations

from pathlib import Path

from tvm_probq.build.manifest import Manifest, current_versions
from tvm_probq.errors import ArtefactError
from tvm_probq.target.host import host_architecture, missing_features


def check_versions(manifest: Manifest, path: Path) -> None:
    """Raise an ArtefactError unless the installed TVM is the one that compiled it."""
    here = current_versions()["apache-tvm"]
    made = manifest.versions.get("apache-tvm")
    if made != here:
        raise ArtefactError(
            f"the artefact was compiled by TVM {made}, but TVM {here} is installed",
            where=str(path),
            why="a compiled library fits only the runtime of its own version",
            fix=f"compile the model again, or pip install apache-tvm=={made}",
        )


def check_machine(manifest: Manifest, path: Path) -> None:
    """Raise an ArtefactError unless this processor has what the code uses."""
    target = manifest.target
    fix = "compile the model for this machine; `tvm-probq targets` shows what it can run"
    why = f"it was compiled for the target {target.name}"
    if target.architecture != host_architecture():
        what = (
            f"the artefact is for {target.architecture} processors, this is {host_architecture()}"
        )
        raise ArtefactError(what, where=str(path), why=why, fix=fix)
    lacking = missing_features(target.features)
    if lacking:
        what = f"this CPU lacks {', '.join(lacking)}, which the artefact needs"
        raise ArtefactError(what, where=str(path), why=why, fix=fix)
