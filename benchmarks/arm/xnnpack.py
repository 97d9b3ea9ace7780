"""XNNPACK on the board: LiteRT's packages, and a card's model as TFLite files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from tvm_probq.errors import UsageError

from . import onnx_layers, tflite_file
from .counting import Array, Count
from .profiling import Symbols, by_function

ENGINE = "ai-edge-litert==2.3.0"
# What its interpreter imports beside NumPy, which the board has; all without code of their own.
PURE = ("flatbuffers==25.12.19", "protobuf==7.36.2", "tqdm==4.70.1", "backports.strenum==1.2.8")
GLIBC = range(17, 37)
SHARED = 0.98  # of all instructions have to be in files of LiteRT
KERNEL = "xnn_"
REFERENCE = "tflite::ops::builtin::"  # the interpreter's own operators


@dataclass(frozen=True)
class Files:
    """A model as TFLite files."""

    int8: Path
    fp32: Path


def install(folder: Path, python: str) -> Path:
    """Put LiteRT for the board's Python into a folder, once.

    Raises
    ------
    UsageError
        If pip cannot get it.
    """
    if not (folder / "ai_edge_litert/interpreter.py").is_file():
        platforms = [f"manylinux_2_{version}_aarch64" for version in GLIBC]
        options = [f"--platform={name}" for name in (*platforms, "manylinux2014_aarch64")]
        options += [f"--python-version={python}", "--implementation=cp", "--only-binary=:all:"]
        options += [f"--abi={name}" for name in (f"cp{python.replace('.', '')}", "abi3", "none")]
        _pip("--no-deps", f"--target={folder}", *options, ENGINE)
        _pip("--no-deps", f"--target={folder}", *PURE)
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError("LiteRT cannot be installed", why=done.stderr.strip()[-600:])


def make(model: Path, calibration: Array, packages: Path, work: Path) -> Files:
    """Write a float ONNX model as TFLite files.

    Parameters
    ----------
    model : Path
        The ONNX file.
    calibration : ndarray, shape (N, C, H, W)
        Inputs: the least and largest value of each tensor are its range.
    packages : Path
        From `install`.
    work : Path
        Where to.
    """
    classes = schema(packages)
    network = onnx_layers.read(model)
    files = Files(work / f"{model.stem}.int8.tflite", work / f"{model.stem}.fp32.tflite")
    files.int8.write_bytes(tflite_file.write(network, classes, ranges(model, network, calibration)))
    files.fp32.write_bytes(tflite_file.write(network, classes, None))
    return files


def ranges(
    model: Path, network: onnx_layers.Network, calibration: Array
) -> dict[str, tuple[float, float]]:
    """Least and largest value of the input and of each layer's output, by ONNX Runtime."""
    import onnx
    import onnxruntime

    names = [layer.output for layer in network.layers]
    proto = onnx.load(model)
    known = {output.name for output in proto.graph.output}
    for name in names:
        if name not in known:
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            proto.graph.output.append(info)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: dict[str, tuple[float, float]] = {}
    for image in calibration:
        values = [image, *session.run(names, {network.input: image[None]})]
        for name, value in zip([network.input, *names], values, strict=True):
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return found


def check_delegated(count: Count) -> None:
    """Make sure that XNNPACK ran all layers.

    Raises
    ------
    UsageError
        If an operator of the interpreter ran, or too little of the time was in XNNPACK.
    """
    functions = by_function(count, Symbols(count.maps))
    own = [name for name, _ in functions if name.startswith(REFERENCE)]
    if own:
        raise UsageError("XNNPACK did not take the whole graph", why=f"{own[0]} ran")
    inside = sum(n for (_, file), n in functions.items() if file.startswith("libpywrap_litert"))
    kernels = [name for name, _ in functions if name.startswith(KERNEL)]
    if not kernels or inside < SHARED * count.instructions:
        share = f"{inside / count.instructions:.1%} of the instructions are LiteRT's"
        raise UsageError("XNNPACK did not run", why=share)


def schema(packages: Path) -> ModuleType:
    """LiteRT's classes of the TFLite format: generated Python, of any processor."""
    sys.path.append(str(packages))  # for flatbuffers
    path = packages / "ai_edge_litert/schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("tflite_schema", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is missing", fix="remove the folder, and it is installed again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
