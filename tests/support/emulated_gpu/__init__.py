"""A CUDA device for tests: TVM's runtime and generated code as they are, on a CPU.

Generated CUDA C++ is compiled as C++ (`emulated.h`), and `driver.cc` takes the place of libcuda and
libcudart. So launches, memory and the host's code are those of a real device.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import tvm
import tvm_ffi

from tvm_probq.build.device_code import CALLBACK

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
_ENTRY = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(')


# Removed with the process.
_FOLDER = tempfile.TemporaryDirectory(prefix="emulated-gpu-")


def _folder() -> Path:
    return Path(_FOLDER.name)


def _build(output: Path, *arguments: str) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the emulated GPU with")
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(output), *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[:4000])
    return output


@dataclass(frozen=True)
class Device:
    """The emulated libcuda and libcudart; the first one loaded serves for both."""

    driver: ctypes.CDLL

    @property
    def launches(self) -> int:
        """Kernels started so far."""
        return int(self.driver.emulated_launches())

    @contextmanager
    def memory(self, size_bytes: int) -> Iterator[None]:
        """A device with less memory."""
        self.driver.emulated_set_memory(ctypes.c_size_t(size_bytes))
        try:
            yield
        finally:
            self.driver.emulated_set_memory(ctypes.c_size_t(8 << 30))

    @contextmanager
    def capability(self, major: int, minor: int) -> Iterator[None]:
        """A device of another architecture."""
        self.driver.emulated_set_capability(major, minor)
        try:
            yield
        finally:
            self.driver.emulated_set_capability(9, 0)


@cache
def device() -> Device:
    """The device, loaded; TVM's CUDA runtime runs on it from then on.

    Skips where TVM was built without CUDA, or found a real device first.
    """
    runtime = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
    if not runtime.exists():
        pytest.skip("this TVM has no CUDA runtime")
    if tvm_ffi.get_global_func("device_api.cuda", allow_missing=True) is not None:
        pytest.skip("a real CUDA driver is loaded: the emulated GPU is for machines without one")
    source, script = str(HERE / "driver.cc"), f"-Wl,--version-script={HERE / 'versions.map'}"
    loaded = []
    for name in ("libcuda.so.1", "libcudart.so.13"):
        path = _build(_folder() / name, source, script, f"-Wl,-soname,{name}", "-ldl")
        loaded.append(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL))
    ctypes.CDLL(str(runtime))
    tvm_ffi.register_global_func(CALLBACK, compile_source, override=True)
    return Device(loaded[0])


def compile_source(code: str) -> bytes:
    """Compile generated CUDA C++ for the emulated device: the image of a module."""
    name = hashlib.sha256(code.encode()).hexdigest()[:24]
    path = _folder() / f"{name}.so"
    if not path.exists():
        entries = [
            f'extern "C" void emulated_{kernel}(void** a, dim3 g, dim3 b) '
            f"{{ emulated::launch({kernel}, a, g, b); }}"
            for kernel in sorted(set(_ENTRY.findall(code)))
        ]
        text = "\n".join(['#include "emulated.h"', code, *entries, ""])
        source = _folder() / f"{name}.cc"
        source.write_text(text)
        _build(path, str(source), f"-I{HERE}", f"-I{HERE / 'include'}")
    return str(path).encode()


class RunTimeCompiler:
    """An emulated libnvrtc.

    Attributes
    ----------
    path : str
        Of the library.
    asked : list of (str, str)
        Sources and options that it was given.
    refusal : str
        What it says instead of compiling; empty to compile.
    """

    def __init__(self) -> None:
        path = _folder() / "libnvrtc-emulated.so"
        self.path = str(path if path.exists() else _build(path, str(HERE / "nvrtc.cc")))
        self.asked: list[tuple[str, str]] = []
        self.refusal = ""
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
        )
        self._kept = kind(self._compile)  # ctypes does not
        ctypes.CDLL(self.path).emulated_nvrtc_compile(self._kept)

    def _compile(self, source: bytes, options: bytes, found: int, size: int) -> int:
        self.asked.append((source.decode(), options.decode()))
        answer = self.refusal.encode() or compile_source(source.decode())
        ctypes.memmove(found, answer[:size], len(answer[:size]))
        return 6 if self.refusal else 0
