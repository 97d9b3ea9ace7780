"""OpenVINO on the float model."""

from __future__ import annotations

from tvm_probq.bench.peers import ov
from tvm_probq.bench.peers.job import Contestant, Job

NAME = "openvino-fp32"
PACKAGES = ov.PACKAGES


def contestant(job: Job) -> Contestant:
    """Compile the float model."""
    return ov.contestant(job, job.onnx)
