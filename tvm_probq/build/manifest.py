"""The manifest of an artefact: what it holds, what made it, and where it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from tvm_probq.build.compiled import LayerReport
from tvm_probq.ir.islands import Island

FORMAT = 1

TensorForm = tuple[str, tuple[int, ...], str]


@dataclass(frozen=True)
class TargetNeeds:
    """Where an artefact runs.

    Attributes
    ----------
    name : str
        Of the target profile.
    tvm_target : dict
        What ``tvm.target.Target`` takes.
    architecture : str
        Such as ``x86_64``.
    features : tuple of str
        CPU features the code uses, in LLVM's names.
    """

    name: str
    tvm_target: dict[str, Any]
    architecture: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything an artefact says about itself.

    Attributes
    ----------
    versions : dict
        Of ``tvm_probq``, ``apache-tvm`` and ``apache-tvm-ffi`` that made it.
    target : TargetNeeds
        Where it runs.
    model_sha256, calibration_sha256 : str
        Of the ONNX file and of the calibration record; the latter empty without one.
    calibration_samples, seed, batch : int
        Samples of the record, seed of random numbers, samples a call takes (1 where the inputs
        and outputs do not count the same samples first).
    random_calibration : bool
        Calibrated on random inputs: its latency says something, its accuracy nothing.
    mode, scheme : str
        Such as ``predicted`` and ``w8a8``.
    inputs, outputs : tuple of (name, shape, dtype)
        As in the ONNX file, batch fixed.
    database : str
        Tuning database that loop sizes came from, with the beginning of its SHA-256; empty
        without one. Which layers it served, their reports say.
    layers : tuple of LayerReport
        In graph order.
    peak_activation_bytes, parameter_bytes : int
        See `Compiled`.
    members : dict of str to str
        SHA-256 of every other member of the file, by name.
    macs, integer_macs, islands
        See `Compiled`.
    """

    versions: dict[str, str]
    target: TargetNeeds
    model_sha256: str
    calibration_sha256: str
    calibration_samples: int
    random_calibration: bool
    seed: int
    mode: str
    scheme: str
    batch: int
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    database: str
    layers: tuple[LayerReport, ...]
    peak_activation_bytes: int
    parameter_bytes: int
    members: dict[str, str]
    macs: int = 0
    integer_macs: int = 0
    islands: tuple[Island, ...] = ()

    def to_text(self) -> str:
        """Give readable JSON, the same for equal manifests, with a checksum of itself."""
        data = {"format": FORMAT, **asdict(self)}
        data["inputs"] = [_form_to_json(form) for form in self.inputs]
        data["outputs"] = [_form_to_json(form) for form in self.outputs]
        return json.dumps({**data, "checksum": checksum(data)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Give the manifest of checked data.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the data is none that `to_text` wrote.
        """
        fields = {k: v for k, v in data.items() if k not in ("format", "checksum")}
        target = dict(fields["target"])
        fields["target"] = TargetNeeds(**{**target, "features": tuple(target["features"])})
        fields["inputs"] = tuple(_form_from_json(form) for form in fields["inputs"])
        fields["outputs"] = tuple(_form_from_json(form) for form in fields["outputs"])
        fields["layers"] = tuple(LayerReport(**layer) for layer in fields["layers"])
        fields["islands"] = tuple(_island(island) for island in fields.get("islands", ()))
        return cls(**fields)


def _island(data: Mapping[str, Any]) -> Island:
    return Island(**{**data, "operators": tuple(data["operators"])})


def checksum(data: Mapping[str, Any]) -> str:
    """Give the SHA-256 of a manifest's data without its own checksum."""
    body = {key: value for key, value in data.items() if key != "checksum"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def current_versions() -> dict[str, str]:
    """Give the versions of the packages that decide an artefact's bytes."""
    packages = ("tvm_probq", "apache-tvm", "apache-tvm-ffi")
    return {package: metadata.version(package) for package in packages}


def _form_to_json(form: TensorForm) -> dict[str, Any]:
    name, shape, dtype = form
    return {"name": name, "shape": list(shape), "dtype": dtype}


def _form_from_json(data: Mapping[str, Any]) -> TensorForm:
    return str(data["name"]), tuple(int(n) for n in data["shape"]), str(data["dtype"])
