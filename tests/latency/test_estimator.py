"""Measured times before learned ones, learned before peak figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_kernels import kernel, true_us

from tvm_probq.errors import TargetError
from tvm_probq.latency.estimator import LearnedEstimator, estimator_of
from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.latency.roofline import Roofline
from tvm_probq.latency.ticked import CallTime
from tvm_probq.target.profile import TargetProfile, load_profile


def profile(name: str = "made-up", **roofline: float) -> TargetProfile:
    return TargetProfile(name, "", {"kind": "llvm"}, (), "", (8,), (8,), roofline=roofline)


def test_a_measured_kernel_has_its_measured_time(measured: MeasuredKernels) -> None:
    odd, other = kernel(branches=5), kernel(dots=20000, loads=3000)
    measured.add("odd", "w8a8 static", [odd], [CallTime(123.0, 122.0, 124.0)])
    found = LearnedEstimator(measured).us([odd, other], [0, 0])
    assert found[0] == 123.0
    assert found[1] == pytest.approx(true_us(other), rel=0.2)


def test_no_estimate_is_faster_than_the_fastest_measured_rate(measured: MeasuredKernels) -> None:
    estimator = LearnedEstimator(measured)
    calls = [kernel(dots=d) for d in (1e4, 1e6, 1e9)]
    fastest = max(
        m.kernel.count("dots") / m.us
        for m in measured.measurements
        if m.kernel.count("dots") >= 1e4
    )
    for call, us in zip(calls, estimator.us(calls, [0] * 3), strict=True):
        assert call.count("dots") / us <= fastest * (1 + 1e-9)


def test_what_was_not_measured_is_uncertain(measured: MeasuredKernels) -> None:
    estimator = LearnedEstimator(measured)
    new = [kernel(dots=d, loads=d) for d in (100, 3000, 100000)]
    known = [m.kernel for m in measured.measurements[:5]]
    below, above = estimator.spread_us([*new, *known])
    assert (below, above) == estimator.spread_us(new)
    assert 0 < below < sum(estimator.us(new, [0] * 3))
    assert above > 0
    assert estimator.spread_us(known) == (0.0, 0.0)
    # The same kernel twice is wrong twice.
    assert estimator.spread_us([new[0]] * 2)[1] == 2 * estimator.spread_us(new[:1])[1]


def test_one_network_does_not_say_how_far_estimates_are_off(measured: MeasuredKernels) -> None:
    alone = MeasuredKernels(measured.target, measured.machine)
    rows = [m for m in measured.measurements if m.network in ("a", "b")]
    times = [CallTime(m.us, m.us, m.us) for m in rows]
    alone.add("all", "w8a8 predicted", [m.kernel for m in rows], times)
    estimator, new = LearnedEstimator(alone), kernel(dots=123456)
    assert estimator.us([new], [0.0])[0] > 0
    assert estimator.spread_us([new]) is None
    assert estimator.spread_us([rows[0].kernel]) == (0.0, 0.0)


def test_a_bound_is_that_of_the_products_or_of_the_bytes() -> None:
    roofline = Roofline(int8_gmacs=10, memory_gbps=2, launch_us=1)
    calls = [kernel(constant_bytes=2000), kernel(read_bytes=200, written_bytes=200)]
    assert roofline.us(calls, [5000, 50000]) == pytest.approx([2.0, 6.0])
    assert not roofline.measured
    assert roofline.spread_us(calls) is None
    assert "nothing measured" in roofline.source


def test_the_best_that_is_known_is_taken(tmp_path: Path, measured: MeasuredKernels) -> None:
    path = tmp_path / "kernels.json"
    measured.save(path)
    found = estimator_of(load_profile("x86-vnni"), path)
    assert isinstance(found, LearnedEstimator)
    assert "a machine" in found.source
    assert isinstance(estimator_of(load_profile("arm-a72")), Roofline)
    assert estimator_of(profile()) is None
    with pytest.raises(TargetError, match="of another target"):
        estimator_of(load_profile("arm-a72"), path)


def test_what_is_shipped_for_x86_is_measured() -> None:
    found = estimator_of(load_profile("x86-vnni"))
    assert isinstance(found, LearnedEstimator)
    assert len(found.kernels.networks) >= 10


@pytest.mark.parametrize(
    ("figures", "message"),
    [({"int8_gmacs": 1.0}, "'memory_gbps' is missing"),
     ({"int8_gmacs": 1.0, "memory_gbps": 1.0, "gflops": 2.0}, "'gflops' is unknown"),
     ({"int8_gmacs": 0.0, "memory_gbps": 1.0}, "a rate is 0"),
     ({"int8_gmacs": -1.0, "memory_gbps": 1.0}, "int8_gmacs is -1")],
)  # fmt: skip
def test_wrong_peak_figures(figures: dict[str, float], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        estimator_of(profile(**figures))
