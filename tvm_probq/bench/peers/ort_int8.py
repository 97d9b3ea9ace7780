"""ONNX Runtime on a static int8 model: QDQ, a scale a channel, min-max ranges."""

from __future__ import annotations

from pathlib import Path

from tvm_probq.bench.peers import ort
from tvm_probq.bench.peers.job import Array, Contestant, Job, quiet

NAME = "ort-int8"
PACKAGES = ort.PACKAGES
FILE = "static.onnx"


def contestant(job: Job) -> Contestant:
    """Quantize, unless the cache has the model, and open it."""
    return Contestant(ort.caller(model_path(job), job.x, job.threads))


def model_path(job: Job) -> Path:
    """Give the quantized model's file."""
    key = job.calibrated_key(*PACKAGES, recipe="u8s8 per channel minmax")
    return job.cache.get(NAME, key, lambda folder: _quantize(job, folder)) / FILE


def _quantize(job: Job, folder: Path) -> None:
    """Static int8: unsigned activations, signed weights with a scale a channel."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    job.say(f"{NAME}: quantizing on {len(job.samples)} inputs")
    prepared = ort.prepare(job, folder)
    name = job.model.inputs[0][0]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(job.samples)

        def get_next(self) -> dict[str, Array] | None:
            x = next(self.rest, None)
            return None if x is None else {name: x}

    with quiet():
        quantize_static(
            str(prepared), str(folder / FILE), Reader(), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    prepared.unlink()
