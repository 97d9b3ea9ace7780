"""Kernels of a made-up machine, whose times are known sums of work."""

from __future__ import annotations

from tvm_probq.latency.kernels import COUNTS, KernelCall

NS = {"dots": 0.25, "loads": 0.05, "constant_bytes": 0.01}
CALL_US = 0.1


def kernel(**work: float) -> KernelCall:
    """A kernel with some counts, the others zero."""
    return KernelCall("layer", "vpdpbusd", tuple(float(work.get(name, 0)) for name in COUNTS))


def true_us(call: KernelCall) -> float:
    """What a kernel takes in this made-up world."""
    return CALL_US + sum(call.count(name) * ns for name, ns in NS.items()) / 1e3
