"""OpenVINO's compiled models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_probq.bench.peers.job import Array, Contestant, Job

PACKAGES = ("openvino",)
DEVICE = "CPU"


def configuration(threads: int) -> dict[str, object]:
    """Latency of one request: one stream, no pinning, float layers in float32 and not bfloat16."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }


def read(path: Path, shape: tuple[int, ...]) -> Any:
    """Read an ONNX or an OpenVINO file, its only input of a fixed shape."""
    import openvino

    model = openvino.Core().read_model(str(path))
    model.reshape(list(shape))
    return model


def contestant(job: Job, path: Path) -> Contestant:
    """Compile a file for the job's input and threads."""
    return Contestant(caller(read(path, job.x.shape), job.x, job.threads))


def caller(model: Any, x: Array, threads: int) -> Callable[[], object]:
    """What to time: one run, the input shared and the output left where it is."""
    import openvino

    compiled = openvino.Core().compile_model(model, DEVICE, configuration(threads))
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return lambda: request.infer(share_outputs=True)
