"""What is predicted from one tensor comes from one kernel."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_probq.passes.fuse_predictions import FusePredictions
from tvm_probq.target.profile import load_profile

CHANGE = FusePredictions(load_profile("x86-64").target())


def test_moments_become_one_kernel_a_layer(
    integer_net: Any, calls_of: Any, kernels_of: Any
) -> None:
    before = integer_net(surrogate="moments")
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    assert calls_of(before).count("probq.surrogate") == 5
    assert "probq.surrogate" not in calls_of(after)
    assert len(kernels_of(after)) == 7  # with a pooling with its range, and sums by themselves
    # The output layer has a correction and no surrogate.
    assert calls_of(after).count("probq.correction") == 1


@pytest.mark.parametrize("options", [{"surrogate": "iid"}, {"mode": "dynamic"}])
def test_other_predictions_stay(
    options: dict[str, str], integer_net: Any, calls_of: Any
) -> None:  # fmt: skip
    before = integer_net(correction="none", **options)
    lowered = ["probq.pool_range", "probq.global_avg_pool", "probq.sums"]
    wanted = [call for call in calls_of(before) if call not in lowered]
    assert [call for call in calls_of(CHANGE(before)) if call != "call_tir"] == wanted


def test_without_predictions_nothing_changes(integer_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, integer_net(mode="static"))


def test_twice_is_once(integer_net: Any) -> None:
    once = CHANGE(integer_net())
    tvm.ir.assert_structural_equal(CHANGE(once), once)


@pytest.mark.parametrize("mode", ["dynamic", "predicted"])
def test_a_pooling_and_its_range_are_one_kernel(
    mode: str, integer_net: Any, calls_of: Any, kernels_of: Any
) -> None:
    before = integer_net(mode=mode)
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    assert calls_of(before).count("probq.pool_range") == 1
    assert not {"probq.pool_range", "probq.global_avg_pool"} & set(calls_of(after))
    kinds = [str(f.attrs["probq.kernel"]) for _, f in kernels_of(after)]
    assert kinds.count("probq_measured_pool") == 1


def test_a_pooling_under_another_range_stays(integer_net: Any, calls_of: Any) -> None:
    after = CHANGE(integer_net(mode="static"))
    assert calls_of(after).count("probq.global_avg_pool") == 1


def test_for_cuda_a_layer_is_predicted_by_one_kernel(
    integer_net: Any, calls_of: Any, kernels_of: Any
) -> None:
    change = FusePredictions(load_profile("cuda-sm80").target())
    before = integer_net(surrogate="moments")
    after = change(before)
    tvm.relax.analysis.well_formed(after)
    assert "probq.surrogate" not in calls_of(after)
    kernels = [function for _, function in kernels_of(after)]
    assert len(kernels) == 6  # with a pooling with its range
    assert all("threadIdx.x" in function.script() for function in kernels)
    assert calls_of(after).count("probq.sums") == 1  # of the output layer, for its correction
