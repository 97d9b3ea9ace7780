"""Running on a CUDA device: what must be there, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tvm_probq.build.artefact import DEVICE_IMAGE, DEVICE_SOURCE, Artefact
from tvm_probq.build.device_code import keep_image
from tvm_probq.errors import ArtefactError, EnvironmentProblem
from tvm_probq.target.cuda import device_fix, device_problem

DEVICE_API = "device_api.cuda"
OUT_OF_MEMORY = ("out of memory", "cudaErrorMemoryAllocation")
WRONG_CODE = ("CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image", "CUDA_ERROR_UNSUPPORTED_PTX")


def is_for_cuda(artefact: Artefact) -> bool:
    """Whether an artefact's kernels run on a CUDA device."""
    return artefact.manifest.target.tvm_target.get("kind") == "cuda"


def open_device(artefact: Artefact) -> Any:
    """The device that an artefact runs on, after all checks; its device code is made known to TVM.

    Raises
    ------
    EnvironmentProblem
        Without a driver, with one that is too old, or without a device.
    ArtefactError
        If the artefact is for a newer architecture.
    """
    where, device = str(artefact.path), tvm.cuda(0)
    if tvm_ffi.get_global_func(DEVICE_API, allow_missing=True) is None or not device.exist:
        why = device_problem() or "TVM's CUDA runtime is not loaded"
        raise EnvironmentProblem(
            "the artefact needs a CUDA device", where=where, why=why, fix=device_fix(why)
        )
    needed = str(artefact.manifest.target.tvm_target.get("arch", ""))
    here = "sm_" + str(device.compute_version).replace(".", "")
    if _number(here) < _number(needed):
        raise ArtefactError(
            f"the artefact is for {needed}, this device is {here}", where=where,
            why="device code runs on its own architecture and on newer ones",
            fix="compile it for this device; `tvm-probq targets` lists the profiles",
        )  # fmt: skip
    if DEVICE_IMAGE in artefact.members:
        keep_image(artefact.members[DEVICE_SOURCE].decode(), artefact.members[DEVICE_IMAGE])
    return device


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the device as errors of ours.

    Raises
    ------
    EnvironmentProblem
        If memory ran out, or the driver refuses the code.
    """
    try:
        yield
    except (RuntimeError, tvm.error.InternalError) as error:
        text = str(error)
        if any(sign in text for sign in OUT_OF_MEMORY):
            raise EnvironmentProblem(
                "the CUDA device has not enough memory", where=str(path),
                why="other programs use it, or the batch is too large",
                fix="see nvidia-smi, or compile with a smaller --batch",
            ) from error  # fmt: skip
        if any(sign in text for sign in WRONG_CODE):
            raise EnvironmentProblem(
                "the driver cannot load the artefact's device code", where=str(path),
                why="it is of another architecture, or made by a newer CUDA than the driver's",
                fix="update the driver, or compile the artefact again for this device",
            ) from error  # fmt: skip
        raise


def _number(arch: str) -> int:
    digits = "".join(c for c in arch if c.isdigit())
    return int(digits) if digits else 0
