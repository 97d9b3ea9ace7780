"""ONNX Runtime on the float model."""

from __future__ import annotations

from tvm_probq.bench.peers import ort
from tvm_probq.bench.peers.job import Contestant, Job

NAME = "ort-fp32"
PACKAGES = ort.PACKAGES


def contestant(job: Job) -> Contestant:
    """Open the float model."""
    return Contestant(ort.caller(job.onnx, job.x, job.threads))
