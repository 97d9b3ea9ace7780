"""ONNX Runtime's contestants: float32, static int8 (QDQ) and dynamic int8 (ConvInteger)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MISSING = (
    "onnxruntime is not installed, and the benchmark compares with it: "
    "pip install onnxruntime, or install this package with its extra 'dev' "
    "(or run with --no-peers)"
)

Array = Any


def check_installed() -> None:
    """Leave with a message unless onnxruntime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"error: {MISSING}\n({error})") from None


def peers(model: Path, samples: Sequence[Array], folder: Path) -> dict[str, Callable[[], object]]:
    """Make every contestant.

    Parameters
    ----------
    model : Path
        The float32 ONNX file.
    samples : sequence of ndarray
        Calibration inputs; the first one is what is run.
    folder : Path
        For the quantized models.
    """
    prepared = _prepared(model, folder)
    files = {
        "ort-fp32": model,
        "ort-int8": _static(prepared, samples, folder),
        "ort-dynamic": _dynamic(prepared, folder),
    }
    return {name: caller(file, samples[0]) for name, file in files.items()}


def caller(model: Path, x: Array) -> Callable[[], object]:
    """What to time: one run on one thread, input and output bound beforehand."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(x))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def _prepared(model: Path, folder: Path) -> Path:
    """Fold BatchNorms and infer shapes, as ONNX Runtime's guide asks before quantizing."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / "prepared.onnx"
    quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    return path


def _static(model: Path, samples: Sequence[Array], folder: Path) -> Path:
    """Static int8: unsigned activations, signed weights with a scale a channel, min-max ranges."""
    import onnxruntime as ort
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    (entry, *_) = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            x = next(self.rest, None)
            return None if x is None else {entry.name: x}

    path = folder / "static.onnx"
    with _quiet():
        quantize_static(
            str(model), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return path


def _dynamic(model: Path, folder: Path) -> Path:
    """Dynamic int8: ConvInteger and MatMulInteger; ConvInteger takes unsigned weights only."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "dynamic.onnx"
    with _quiet():
        quantize_dynamic(str(model), str(path), weight_type=QuantType.QUInt8)
    return path


class _quiet:  # noqa: N801 - reads as a statement
    """Hide the quantizer's advice, which concerns what `_prepared` has done already."""

    def __enter__(self) -> None:
        self.level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self.level)
