"""What is predicted from one tensor comes from one kernel."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_probq.passes.fuse_predictions import FusePredictions

CHANGE = FusePredictions()


def test_moments_become_one_kernel_a_layer(
    integer_net: Any, calls_of: Any, kernels_of: Any
) -> None:
    before = integer_net(surrogate="moments")
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    assert calls_of(before).count("probq.surrogate") == 5
    assert "probq.surrogate" not in calls_of(after)
    assert len(kernels_of(after)) == 5
    # The output layer has a correction and no surrogate.
    assert calls_of(after).count("probq.correction") == 1


@pytest.mark.parametrize("options", [{"surrogate": "iid"}, {"mode": "static"}, {"mode": "dynamic"}])
def test_other_predictions_stay(options: dict[str, str], integer_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, integer_net(correction="none", **options))


def test_twice_is_once(integer_net: Any) -> None:
    once = CHANGE(integer_net())
    tvm.ir.assert_structural_equal(CHANGE(once), once)
