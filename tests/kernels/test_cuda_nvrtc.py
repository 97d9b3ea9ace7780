"""Device code compiled on load by NVRTC: an emulated one, and the real one where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi
from emulated_gpu import CALLBACK, RunTimeCompiler, compile_source, device
from layer_cases import layer

from tvm_probq.build import device_code
from tvm_probq.build.artefact import DEVICE_IMAGE, load_artefact
from tvm_probq.build.device_code import compile_on_load
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.errors import KernelError
from tvm_probq.kernels.cuda import nvrtc
from tvm_probq.kernels.cuda.gate import device_sources
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.runtime.runner import Runner

SOURCE = 'extern "C" __global__ void twice(int* x) { x[threadIdx.x] *= 2; }\n'


@pytest.fixture(autouse=True)
def _no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_code, "find_nvcc", lambda: "")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> RunTimeCompiler:
    """An emulated NVRTC among Python's packages, whatever this machine has."""
    found = RunTimeCompiler()
    monkeypatch.setattr(nvrtc, "find_nvrtc", lambda: found.path)
    monkeypatch.setattr(device_code, "find_nvrtc", lambda: found.path)
    return found


def artefact(path: Path) -> None:
    """The bundled network from a machine without a device and without nvcc."""
    code = (
        "import sys; from tvm_probq.build import device_code; from tvm_probq.cli.main import main;"
        "device_code.find_nvcc = str; sys.exit(main(sys.argv[1:]))"
    )
    command = ["compile", str(MODEL_PATH), "--target", "cuda-sm80", "--random-calibration", "4"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "-o", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert DEVICE_IMAGE not in load_artefact(path).members


def test_an_artefact_of_source_alone_is_compiled_on_load(
    compiler: RunTimeCompiler, tmp_path: Path
) -> None:
    gpu, x = device(), load_split()[0][:2].astype(np.float32)
    artefact(tmp_path / "model.probq")
    with Runner(load_artefact(tmp_path / "model.probq")) as runner:
        wanted = runner.run(x)
    assert not compiler.asked
    tvm_ffi.register_global_func(CALLBACK, compile_on_load, override=True)
    try:
        before = gpu.launches
        with Runner(load_artefact(tmp_path / "model.probq")) as runner:
            found = runner.run(x)
    finally:
        tvm_ffi.register_global_func(CALLBACK, compile_source, override=True)
    assert gpu.launches > before
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    for source, options in compiler.asked:
        assert "namespace probq" in source
        assert "--fmad=false" in options
        assert "fast" not in options  # TVM's own call of NVRTC has it
        assert "--gpu-architecture=sm_90" in options  # of the device, which is newer
    assert compiler.asked


def test_the_architecture_is_that_of_the_target_in_force(compiler: RunTimeCompiler) -> None:
    with tvm.target.Target({"kind": "cuda", "arch": "sm_86"}, host={"kind": "llvm"}):
        image = compile_on_load(SOURCE)
    assert image == compile_source(SOURCE)
    ((source, options),) = compiler.asked
    assert source == SOURCE
    assert "--gpu-architecture=sm_86" in options


def test_what_the_compiler_says_is_told(compiler: RunTimeCompiler) -> None:
    compiler.refusal = "kernels.cu(1): error: no such thing\n1 error detected"
    with pytest.raises(KernelError, match=r"sm_80: NVRTC cannot compile.*no such thing"):
        nvrtc.compile_cubin(SOURCE, "sm_80")


def test_without_any_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "find_nvrtc", lambda: "")
    monkeypatch.setattr(device_code, "find_nvrtc", lambda: "")
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
    with target, pytest.raises(KernelError, match="neither nvcc nor NVRTC.*nvidia-cuda-nvrtc"):
        compile_on_load(SOURCE)
    with pytest.raises(KernelError, match="neither installed.*nvidia-cuda-nvrtc"):
        nvrtc.compile_cubin(SOURCE, "sm_80")


def test_a_damaged_library_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libnvrtc.so.13").write_text("nothing")
    monkeypatch.setattr(nvrtc, "find_nvrtc", lambda: str(tmp_path / "libnvrtc.so.13"))
    with pytest.raises(KernelError, match="cannot be loaded"):
        nvrtc.compile_cubin(SOURCE, "sm_80")


def test_it_is_found_among_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvrtc, "NAMES", ("libnvrtc-of-no-machine.so.13",))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert nvrtc.find_nvrtc() == ""
    path = tmp_path / nvrtc.PACKAGES[0] / nvrtc.NAMES[0]
    path.parent.mkdir(parents=True)
    path.touch()
    assert nvrtc.find_nvrtc() == str(path)


def generated() -> str:
    """What TVM makes of a kernel: our device code, and what it includes for its own sake."""
    device()
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
    func = layer_kernel(layer(8, 8, 64, 64, 3, p=1), target).func.with_attr("global_symbol", "main")
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        (source,) = device_sources(tvm.tirx.build(func, target=target))
    return source


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
def test_the_real_one_needs_no_headers_of_the_toolkit(arch: str) -> None:
    if not nvrtc.find_nvrtc():
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    uses = (
        "static_assert(cuda::std::is_same_v<cuda::std::uint8_t, unsigned char>);\n"
        "static_assert(cuda::std::is_unsigned<cuda::std::uint64_t>::value);\n"
        "static_assert(!cuda::std::is_integral<float>::value);\n"
        "__device__ float infinity() { return CUDART_INF_F; }\n"
    )
    includes = "\n".join(f"#include <{name}>" for name in nvrtc.HEADERS)
    source = f"{generated()}\n{includes}\n{uses}"
    # In a process of its own: the emulated device's libraries stay where they were loaded.
    code = (
        "import sys; from tvm_probq.kernels.cuda.nvrtc import compile_cubin;"
        "sys.stdout.buffer.write(compile_cubin(sys.stdin.read(), sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, arch], input=source.encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout[:4] == b"\x7fELF"
