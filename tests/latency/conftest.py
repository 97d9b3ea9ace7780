"""Made-up measurements, whose times are known sums of work."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_kernels import NS, kernel, true_us

from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.latency.ticked import CallTime


@pytest.fixture
def measured() -> MeasuredKernels:
    """Four networks of 40 kernels."""
    rng = np.random.default_rng(0)
    found = MeasuredKernels("x86-vnni", "a machine")
    for network in ("a", "b", "c", "d"):
        sizes = np.exp(rng.uniform(5, 12, (40, len(NS)))).round()
        calls = [kernel(**dict(zip(NS, row, strict=True))) for row in sizes]
        times = [CallTime(us, us, us) for us in map(true_us, calls)]
        found.add(network, "w8a8 predicted", calls, times)
    return found
