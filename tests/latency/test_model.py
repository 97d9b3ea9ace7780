"""The cost model: what it learns, how it grows, and how far it is off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_kernels import kernel, true_us

from tvm_probq.errors import TargetError
from tvm_probq.latency.held_out import held_out
from tvm_probq.latency.kernels import KernelCall
from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.latency.model import LatencyModel


def scaled(call: KernelCall, factor: float) -> KernelCall:
    return replace(call, counts=tuple(c * factor for c in call.counts))


def test_it_tells_kernels_that_it_has_not_seen(measured: MeasuredKernels) -> None:
    model = LatencyModel(measured.measurements)
    calls = [kernel(dots=20000, loads=3000), kernel(dots=500, constant_bytes=90000)]
    assert model.us(calls) == pytest.approx([true_us(c) for c in calls], rel=0.1)
    assert model.us([]).shape == (0,)


def test_more_of_the_same_work_never_takes_less(measured: MeasuredKernels) -> None:
    model = LatencyModel(measured.measurements)
    for m in measured.measurements[::9]:
        times = model.us([scaled(m.kernel, f) for f in np.geomspace(0.1, 1000, 50)])
        assert (np.diff(times) >= 0).all()


def test_beyond_the_largest_measured_kernel_it_goes_on(measured: MeasuredKernels) -> None:
    model = LatencyModel(measured.measurements)
    call = kernel(dots=5e7, loads=1e7)
    assert model.us([call])[0] == pytest.approx(true_us(call), rel=0.2)


def test_the_same_measurements_give_the_same_model(measured: MeasuredKernels) -> None:
    calls = [m.kernel for m in measured.measurements]
    first, second = (LatencyModel(measured.measurements).us(calls) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_few_kernels_are_refused(measured: MeasuredKernels) -> None:
    with pytest.raises(TargetError, match="49 measured kernels are too few"):
        LatencyModel(measured.measurements[:49])


def test_networks_held_out(measured: MeasuredKernels) -> None:
    quality = held_out(measured)
    assert [n.network for n in quality.networks] == ["a", "b", "c", "d"]
    assert quality.spearman > 0.99
    assert quality.median_error < 0.05
    assert quality.networks[0].totals["w8a8 predicted"] == pytest.approx(1, rel=0.05)
    bounds, shares = quality.intervals()
    assert bounds == sorted(bounds)
    kinds = np.searchsorted(bounds, quality.estimated_us)
    inside = [
        shares[kind][0] <= us / estimate <= shares[kind][1]
        for kind, us, estimate in zip(kinds, quality.us, quality.estimated_us, strict=True)
    ]
    assert 0.8 < np.mean(inside) < 1.0
