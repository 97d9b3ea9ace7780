"""The artefact: one file with the compiled library, the plan, the calibration and a manifest."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_probq.build.archive import damaged, not_an_artefact, pack, unpack
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.fitness import check_machine, check_versions
from tvm_probq.build.link import link_library
from tvm_probq.build.manifest import FORMAT, Manifest, TargetNeeds, checksum, current_versions
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import ArtefactError
from tvm_probq.files import write_file
from tvm_probq.frontend.shapes import counted_samples
from tvm_probq.plan.plan import Plan
from tvm_probq.target.profile import TargetProfile

MANIFEST = "manifest.json"
PLAN = "plan.toml"
CALIBRATION = "calibration.json"
LIBRARY = "library.so"
DEVICE_SOURCE, DEVICE_IMAGE = "kernels.cu", "kernels.fatbin"


@dataclass(frozen=True)
class Artefact:
    """A checked artefact.

    Attributes
    ----------
    path : Path
        Where it was read from.
    manifest : Manifest
        What it says about itself.
    members : dict of str to bytes
        Content of every other member, by name.
    """

    path: Path
    manifest: Manifest
    members: dict[str, bytes]

    @property
    def library(self) -> bytes:
        """The shared library."""
        return self.members[LIBRARY]

    @property
    def plan(self) -> Plan:
        """The plan it was compiled by."""
        return Plan.from_toml(self.members[PLAN].decode(), f"{self.path}, {PLAN}")

    @property
    def record(self) -> CalibrationRecord | None:
        """The calibration record; None for a float model."""
        text = self.members.get(CALIBRATION)
        return None if text is None else CalibrationRecord.from_text(text.decode())


def save_artefact(
    compiled: Compiled,
    plan: Plan,
    record: CalibrationRecord | None,
    profile: TargetProfile,
    path: Path,
    *,
    model_sha256: str,
    seed: int = 0,
    random_calibration: bool = False,
    database: str = "",
) -> Manifest:
    """Write an artefact, all or nothing.

    Parameters
    ----------
    compiled : Compiled
        From ``compile_model``.
    plan, record, profile
        What it was compiled with; the record is None for a float model.
    path : Path
        Where to.
    model_sha256 : str
        Of the ONNX file.
    seed : int, optional
        Of the random numbers used.
    random_calibration : bool, optional
        Whether the record is of random inputs.
    database : str, optional
        Identity of the tuning database that was used.

    Raises
    ------
    KernelError
        If the library cannot be linked.
    ArtefactError
        If the file cannot be written.
    """
    library = link_library(compiled, str(profile.host.get("mtriple", "")))
    members = {PLAN: plan.to_toml().encode(), LIBRARY: library}
    if compiled.device is not None:
        members[DEVICE_SOURCE] = compiled.device.source.encode()
        if compiled.device.image:
            members[DEVICE_IMAGE] = compiled.device.image
    if record is not None:
        members[CALIBRATION] = record_bytes(record)
    hashes = {name: _sha256(members[name]) for name in sorted(members)}
    manifest = Manifest(
        versions=current_versions(),
        target=TargetNeeds(
            profile.name, profile.tvm_target, profile.architecture, profile.features
        ),
        model_sha256=model_sha256,
        calibration_sha256=hashes.get(CALIBRATION, ""),
        calibration_samples=0 if record is None else record.samples,
        random_calibration=random_calibration,
        seed=seed,
        mode=compiled.mode,
        scheme=compiled.scheme,
        batch=counted_samples((*compiled.inputs, *compiled.outputs)) or 1,
        inputs=compiled.inputs,
        outputs=compiled.outputs,
        database=database,
        layers=compiled.layers,
        peak_activation_bytes=compiled.peak_activation_bytes,
        parameter_bytes=compiled.parameter_bytes,
        members=hashes,
        macs=compiled.macs,
        integer_macs=compiled.integer_macs,
        islands=compiled.islands,
    )
    content = pack({MANIFEST: manifest.to_text().encode(), **members})
    write_file(path, content, what="the artefact", kind=ArtefactError)
    return manifest


def load_artefact(path: Path, *, to_run: bool = True) -> Artefact:
    """Read and check an artefact.

    Parameters
    ----------
    path : Path
        What `save_artefact` wrote.
    to_run : bool, optional
        Also check that it runs on this machine with the installed TVM.

    Raises
    ------
    ArtefactError
        If it is missing, no artefact, truncated, edited, or made by another version or for
        another machine.
    """
    members = unpack(path)
    data = _manifest_data(members.pop(MANIFEST, None), path)
    try:
        manifest = Manifest.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"the manifest is incomplete ({error})") from error
    _check_members(manifest, members, path)
    if to_run:
        check_versions(manifest, path)
        check_machine(manifest, path)
    return Artefact(path, manifest, members)


def record_bytes(record: CalibrationRecord) -> bytes:
    """Give a record as the file its ``save`` writes."""
    with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
        path = Path(folder, CALIBRATION)
        record.save(path)
        return path.read_bytes()


def _manifest_data(text: bytes | None, path: Path) -> dict[str, Any]:
    if text is None:
        raise not_an_artefact(path, f"it has no {MANIFEST}")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise damaged(path, f"{MANIFEST} is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise damaged(path, f"{MANIFEST} holds no table")
    # The format comes first: another one may have no checksum, or another.
    if data.get("format") != FORMAT:
        raise ArtefactError(
            f"the artefact has format {data.get('format')}, this version reads format {FORMAT}",
            where=str(path),
            why="another version of tvm_probq wrote it",
            fix="compile the model again with this version",
        )
    if data.get("checksum") != checksum(data):
        raise damaged(path, f"{MANIFEST} was edited, its checksum is wrong")
    return data


def _check_members(manifest: Manifest, members: dict[str, bytes], path: Path) -> None:
    missing = sorted({PLAN, LIBRARY, *manifest.members} - set(members))
    if missing:
        raise damaged(path, f"its member {missing[0]} is missing")
    strange = sorted(set(members) - set(manifest.members))
    if strange:
        raise damaged(path, f"its member {strange[0]} is not in the manifest")
    for name, expected in manifest.members.items():
        if _sha256(members[name]) != expected:
            raise damaged(path, f"its member {name} was edited, its SHA-256 is wrong")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
