"""OpenVINO on a static int8 model by NNCF, preset MIXED: asymmetric activations."""

from __future__ import annotations

import os
from pathlib import Path

from tvm_probq.bench.peers import ov
from tvm_probq.bench.peers.job import Contestant, Job, quiet

NAME = "openvino-int8"
PACKAGES = (*ov.PACKAGES, "nncf")
FILE = "int8.xml"
# Without it NNCF reports its use over the network, from a thread of its own.
NO_TELEMETRY = "NNCF_CI"


def contestant(job: Job) -> Contestant:
    """Quantize, unless the cache has the model, and compile it."""
    key = job.calibrated_key(*PACKAGES, recipe="preset mixed")
    folder = job.cache.get(NAME, key, lambda folder: _quantize(job, folder))
    return ov.contestant(job, folder / FILE)


def _quantize(job: Job, folder: Path) -> None:
    os.environ.setdefault(NO_TELEMETRY, "1")
    job.say(f"{NAME}: quantizing on {len(job.samples)} inputs")
    with quiet():
        import nncf
        import openvino

        nncf.set_log_level("ERROR")
        model = ov.read(job.onnx, job.samples[0].shape)
        quantized = nncf.quantize(
            model,
            nncf.Dataset(list(job.samples)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(job.samples),
        )
        # As it was made: by default constants would be stored in 16 bits.
        openvino.save_model(quantized, str(folder / FILE), compress_to_fp16=False)
