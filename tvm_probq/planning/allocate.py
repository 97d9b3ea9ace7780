"""The best option for every layer under limits: a mixed-integer program, solved exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tvm_probq.errors import PlanError
from tvm_probq.simulator.arithmetic import Array

# Costs of one option by name, such as "parameter_bytes"; each adds up over layers.
Costs = Mapping[str, float]
Choices = Mapping[str, Mapping[str, Costs]]
# The solver's tolerances are absolute: values are scaled to be large beside them.
SCALE = 1e4
LIMIT_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Allocation:
    """An option for every layer.

    Attributes
    ----------
    chosen : dict
        Names of options by layer.
    totals : dict
        Every cost, added up over layers.
    gap : float
        How far below its cost another allocation could still be, relative to the cost: 0 if none
        is better.
    """

    chosen: dict[str, str]
    totals: dict[str, float]
    gap: float


def allocate(choices: Choices, minimize: str, limits: Mapping[str, float]) -> Allocation:
    """Choose one option a layer, with the least sum of one cost and others within limits.

    Parameters
    ----------
    choices : mapping
        Costs by layer and option; all options have the same costs. One that is below 0 is a gain.
    minimize : str
        Name of a cost.
    limits : mapping
        The largest sum of a cost, by name.

    Raises
    ------
    PlanError
        When no choice is within the limits.
    """
    if not choices:
        return Allocation({}, dict.fromkeys([minimize, *limits], 0.0), 0.0)
    pairs = [(layer, option) for layer, options in choices.items() for option in options]
    of = {
        name: np.array([choices[layer][option][name] for layer, option in pairs], np.float64)
        for name in dict.fromkeys([minimize, *limits])
    }
    layers = list(choices)
    one_each = np.zeros((len(layers), len(pairs)))
    one_each[[layers.index(layer) for layer, _ in pairs], np.arange(len(pairs))] = 1
    constraints = [LinearConstraint(one_each, 1, 1)]
    for name, limit in limits.items():
        unit = SCALE / (np.abs(of[name]).max() or 1.0)
        slack = LIMIT_TOLERANCE * abs(limit)
        constraints.append(LinearConstraint(of[name][None] * unit, ub=(limit + slack) * unit))
    largest = np.abs(of[minimize]).max() or 1.0
    result = milp(
        of[minimize] * (SCALE / largest), constraints=constraints, bounds=Bounds(0, 1),
        integrality=np.ones(len(pairs)), options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if result.x is None:
        raise _no_choice(choices, limits, str(result.message))
    taken = [pair for pair, x in zip(pairs, result.x, strict=True) if x > 0.5]
    return _allocation(choices, dict(taken), result)


def total(choices: Choices, chosen: Mapping[str, str], name: str) -> float:
    """One cost of an allocation."""
    return float(sum(choices[layer][option][name] for layer, option in chosen.items()))


def _allocation(choices: Choices, chosen: dict[str, str], result: Any) -> Allocation:
    first = next(iter(choices.values()))
    names = list(next(iter(first.values())))
    totals = {name: total(choices, chosen, name) for name in names}
    bound = result.fun if result.mip_dual_bound is None else result.mip_dual_bound
    gap = max(0.0, float(result.fun - bound)) / abs(result.fun) if result.fun else 0.0
    return Allocation(chosen, totals, gap)


def _no_choice(choices: Choices, limits: Mapping[str, float], message: str) -> PlanError:
    least = {
        name: sum(min(costs[name] for costs in options.values()) for options in choices.values())
        for name in limits
    }
    short = [n for n, limit in limits.items() if least[n] > limit * (1 + LIMIT_TOLERANCE)]
    why = "; ".join(
        f"{n} is at least {least[n]:.6g}, the budget leaves {limits[n]:.6g}" for n in short
    )
    return PlanError(
        "no choice of options meets the budget",
        why=why or f"all limits together are too tight ({message})",
        fix="allow more, or offer narrower options",
    )


def pareto_front(choices: Choices, minimize: str, by: str, points: int) -> list[Allocation]:
    """The best allocations for evenly spaced limits of the cost `by`, dominated ones left out."""
    lows: Sequence[float] = [min(c[by] for c in o.values()) for o in choices.values()]
    highs: Sequence[float] = [max(c[by] for c in o.values()) for o in choices.values()]
    limits: Array = np.linspace(sum(highs), sum(lows), points)
    front: list[Allocation] = []
    for limit in limits:
        found = allocate(choices, minimize, {by: float(limit)})
        if not front or found.totals[by] < front[-1].totals[by]:
            front.append(found)
    return front
