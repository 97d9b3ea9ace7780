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
from functools import cache
from pathlib import Path

import pytest
import tvm
import tvm_ffi

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
_ENTRY = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(')


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="emulated-gpu-"))


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


@cache
def device() -> ctypes.CDLL:
    """The driver, loaded; TVM's CUDA runtime runs on it from then on.

    Skips where TVM was built without CUDA, or found a real device first.
    """
    runtime = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
    if not runtime.exists():
        pytest.skip("this TVM has no CUDA runtime")
    if tvm_ffi.get_global_func("device_api.cuda", allow_missing=True) is not None:
        pytest.skip("a real CUDA driver is loaded: the emulated GPU is for machines without one")
    source, script = str(HERE / "driver.cc"), f"-Wl,--version-script={HERE / 'versions.map'}"
    for name in ("libcuda.so.1", "libcudart.so.13"):
        path = _build(_folder() / name, source, script, f"-Wl,-soname,{name}", "-ldl")
        loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(runtime))
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_source, override=True)
    return loaded


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
