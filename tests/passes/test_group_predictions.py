"""A layer and the prediction that it alone waits for are one PrimFunc."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_probq.passes.fuse_predictions import FusePredictions
from tvm_probq.passes.group_predictions import GroupPredictions
from tvm_probq.passes.lower_layers import LowerLayers

CHANGE = GroupPredictions()


@pytest.fixture(scope="module")
def lowered(integer_net: Any, target: Any) -> Any:
    """The network after the passes that come first."""
    passes = [FusePredictions(), LowerLayers(target)]
    return tvm.transform.Sequential(passes)(integer_net(surrogate="moments"))


def test_fewer_kernels_are_called(lowered: Any, kernels_of: Any) -> None:
    after = CHANGE(lowered)
    tvm.relax.analysis.well_formed(after)
    before_count, after_count = len(kernels_of(lowered)), len(kernels_of(after))
    assert before_count == 11
    assert 6 <= after_count < before_count


def test_twice_is_once(lowered: Any) -> None:
    once = CHANGE(lowered)
    tvm.ir.assert_structural_equal(CHANGE(once), once)


def test_without_predictions_nothing_changes(integer_net: Any, target: Any, unchanged: Any) -> None:
    unchanged(CHANGE, LowerLayers(target)(integer_net(mode="static")))
