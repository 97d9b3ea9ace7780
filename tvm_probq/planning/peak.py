"""The peak of activation memory as a budget: options that break it are none, plans are checked."""

from collections.abc import Mapping
from dataclasses import replace

from tvm_probq.build.memory import Peak
from tvm_probq.errors import PlanError
from tvm_probq.planning.planner import Prices
from tvm_probq.planning.sizes import NetworkSizes

# How many of the tensors that are alive together a message names.
NAMED = 4


def within_peak(limit: float | None, networks: Mapping[str, NetworkSizes]) -> list[str]:
    """The options that keep the peak within a limit when all layers have them."""
    return [option for option, sizes in networks.items() if limit is None or sizes.peak <= limit]


def restricted(found: Prices, options: list[str]) -> Prices:
    """Prices of some options alone.

    Raises
    ------
    PlanError
        When a layer has none left.
    """
    choices = {
        layer: {option: costs for option, costs in known.items() if option in options}
        for layer, known in found.choices.items()
    }
    empty = [layer for layer, known in choices.items() if not known]
    if empty:
        raise PlanError(
            "the layer has no option that keeps the peak of activations", where=empty[0],
            why="those that do ruin the outputs", fix="allow a larger peak",
        )  # fmt: skip
    return replace(found, choices=choices)


def check_peak(limit: float | None, peak: Peak) -> None:
    """Raise a PlanError, which names the largest tensors, for a peak above the limit."""
    if limit is None or peak.total <= limit:
        return
    named = ", ".join(f"{name} ({size})" for name, size in peak.tensors[:NAMED])
    more = len(peak.tensors) - NAMED
    raise PlanError(
        f"activations take {peak.total} bytes at their peak, the budget is {limit:.0f}",
        where="--budget",
        why=f"alive together are {named}{f' and {more} smaller ones' if more > 0 else ''}",
        fix=f"allow peak={peak.total}, offer w8a4:storage=packed, which takes half a byte a value, "
        "or give the model smaller tensors",
    )
