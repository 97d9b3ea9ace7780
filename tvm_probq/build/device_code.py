"""The device code of a model for CUDA: what an artefact holds of it, and compiling it on load."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import IRModule

from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda.gate import check_program, device_sources
from tvm_probq.kernels.cuda.nvcc import Program, compile_program, find_nvcc
from tvm_probq.kernels.cuda.nvrtc import INSTALL, compile_cubin, find_nvrtc
from tvm_probq.kernels.gate import INSTRUCTION

CALLBACK = "tvm_callback_cuda_compile"
_IMAGES: dict[str, bytes] = {}  # by hash of the source, what need not be compiled again


@dataclass(frozen=True)
class DeviceCode:
    """Device code of a model.

    Attributes
    ----------
    source : str
        CUDA C++.
    image : bytes
        A fat binary; empty where no nvcc was found, so that the source is compiled on load.
    program : Program, optional
        What nvcc said.
    """

    source: str
    image: bytes
    program: Program | None


def device_code(lowered: IRModule, executable: Any, target: tvm.target.Target) -> DeviceCode:
    """Compile and check the device code of an executable, if nvcc is here.

    Raises
    ------
    KernelError
        If a kernel lacks its instruction or does not fit, or nvcc fails.
    """
    source = "\n".join(device_sources(executable))
    program = compile_program(source, str(target.attrs["arch"])) if find_nvcc() else None
    check_program(_instructions(lowered), source, program)
    image = b"" if program is None else program.image
    if image:
        keep_image(source, image)
    return DeviceCode(source, image, program)


def _instructions(lowered: IRModule) -> dict[str, str]:
    return {
        str(var.name_hint): str(func.attrs[INSTRUCTION])
        for var, func in lowered.functions_items()
        if isinstance(func, tirx.PrimFunc) and func.attrs and func.attrs.get(INSTRUCTION, "")
    }


def keep_image(source: str, image: bytes) -> None:
    """Have this image taken when TVM loads this source."""
    _IMAGES[hashlib.sha256(source.encode()).hexdigest()] = image


def compile_on_load(code: str) -> bytes:
    """What TVM's runtime loads for a source: an image that is known, or compiled here.

    Raises
    ------
    KernelError
        If there is neither nvcc nor NVRTC, or it fails.
    """
    known = _IMAGES.get(hashlib.sha256(code.encode()).hexdigest())
    if known is not None:
        return known
    arch = _arch()
    if find_nvcc():
        return compile_program(code, arch).image
    if find_nvrtc():
        return compile_cubin(code, arch)
    raise KernelError(
        "the artefact's device code cannot be compiled here", where=arch,
        why="the artefact holds its source alone, and there is neither nvcc nor NVRTC",
        fix=f"{INSTALL}, or install the CUDA toolkit, or compile the artefact where nvcc is",
    )  # fmt: skip


def _arch() -> str:
    """The architecture to compile for: that of the target in force, or of the device."""
    target = tvm.target.Target.current(allow_none=True)
    if target is not None and "arch" in target.attrs:
        return str(target.attrs["arch"])
    return "sm_" + str(tvm.cuda(0).compute_version).replace(".", "")


tvm_ffi.register_global_func(CALLBACK, compile_on_load, override=True)
