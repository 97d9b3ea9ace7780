"""ONNX Runtime's sessions and its quantizers' common steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tvm_probq.bench.peers.job import Array, Job, quiet

PACKAGES = ("onnxruntime",)


def caller(model: Path, x: Array, threads: int) -> Callable[[], object]:
    """What to time: one run, input and output bound beforehand.

    Threads spin while they wait, as is the default, unless there is only one.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    spin = "1" if threads > 1 else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spin)
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(x))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def prepare(job: Job, folder: Path) -> Path:
    """Fold BatchNorms and infer shapes, as ONNX Runtime's guide asks before quantizing."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / "prepared.onnx"
    with quiet():
        quant_pre_process(str(job.onnx), str(path), skip_symbolic_shape=True)
    return path
