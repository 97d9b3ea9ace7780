"""The surrogate's share: what prediction costs, measured in two ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm
from numpy.typing import NDArray

from tvm_probq.bench.kernels import kernel_times
from tvm_probq.bench.ours import Ours
from tvm_probq.bench.timing import Timing
from tvm_probq.build.compile import build
from tvm_probq.passes.pipeline import kernel_passes

PREDICTED, STATIC = "predicted", "static"
# Kernels that find a range or a correction before a layer runs; a layer's own kernel is none.
PREDICTION_KERNELS = (
    "predict", "sums", "patch_sums", "surrogate", "correction", "pool_range", "merge_ranges",
    "product_range",
)  # fmt: skip
# Measures the network's input, which predicted mode does too and static mode does not.
OBSERVING_KERNELS = ("observe",)
PREFIX = "probq_"
MERGING = ("probq.GroupPredictions", "probq.PackConstants")  # passes that hide kernels in others
US_PER_MS = 1e3


def surrogate_share(
    predicted: Ours, x: NDArray[Any], times: Mapping[str, Timing], clock: str
) -> dict[str, Any]:
    """Give the share of the run that the prediction takes.

    Parameters
    ----------
    predicted : Ours
        The model in predicted mode. It is built once more with prediction kernels of their own,
        not merged into the kernels that wait for them, and with each constant by itself.
    x : ndarray
        The input.
    times : mapping of str to Timing
        Of the modes ``static`` and ``predicted``.
    clock : str
        See `fair_clock`.
    """
    target = predicted.profile.target()
    passes = [p for p in kernel_passes(target, predicted.tiles()) if p.info.name not in MERGING]
    lowered = tvm.transform.Sequential(passes)(predicted.integer())
    kinds = (*PREDICTION_KERNELS, *OBSERVING_KERNELS)
    executable = build(lowered, target, ahead_of_time=False)
    calls = kernel_times(executable, x, lambda name: kind_of(name) in kinds)
    alone = [c.ms for c in calls if kind_of(c.name) in PREDICTION_KERNELS]
    observing = [c.ms for c in calls if kind_of(c.name) in OBSERVING_KERNELS]
    whole = times[PREDICTED].ms(clock)
    return {
        "by_difference": 1 - times[STATIC].ms(clock) / whole,
        "by_kernels": sum(alone) / whole,
        "kernels_ms": sum(alone),
        "kernel_calls": len(alone),
        "measuring_input_ms": sum(observing),
    }


def show_share(share: Mapping[str, Any]) -> str:
    """Say both shares in a sentence."""
    return (
        f"surrogate's share: {100 * share['by_difference']:.1f} % as 1 - static / predicted "
        f"(medians above), in which measuring the network's input takes "
        f"{US_PER_MS * share['measuring_input_ms']:.1f} us; {100 * share['by_kernels']:.1f} % as "
        f"the sum of the {share['kernel_calls']} prediction kernels timed alone "
        f"({US_PER_MS * share['kernels_ms']:.1f} us) over predicted"
    )


def kind_of(name: str) -> str:
    """Kind of a small kernel, empty for others: ``predict`` of ``probq_predict5``."""
    if not name.startswith(PREFIX):
        return ""
    return name.removeprefix(PREFIX).rstrip("0123456789").removesuffix("_")
