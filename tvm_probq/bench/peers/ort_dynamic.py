"""ONNX Runtime on a dynamic int8 model: ConvInteger and MatMulInteger, unsigned weights."""

from __future__ import annotations

from pathlib import Path

from tvm_probq.bench.peers import ort
from tvm_probq.bench.peers.job import Contestant, Job, quiet

NAME = "ort-dynamic"
PACKAGES = ort.PACKAGES
FILE = "dynamic.onnx"


def contestant(job: Job) -> Contestant:
    """Quantize, unless the cache has the model, and open it."""
    key = job.key(*PACKAGES, recipe="u8 weights")
    folder = job.cache.get(NAME, key, lambda folder: _quantize(job, folder))
    return Contestant(ort.caller(folder / FILE, job.x, job.threads))


def _quantize(job: Job, folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    job.say(f"{NAME}: quantizing")
    prepared = ort.prepare(job, folder)
    with quiet():
        # ConvInteger takes unsigned weights only.
        quantize_dynamic(str(prepared), str(folder / FILE), weight_type=QuantType.QUInt8)
    prepared.unlink()
