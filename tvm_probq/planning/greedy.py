"""A second way to choose options, step by step: the optimum must never be worse than this."""

from collections.abc import Iterator, Mapping

from tvm_probq.planning.allocate import LIMIT_TOLERANCE, Allocation, Choices, Costs, total

Step = tuple[float, str, str]
# A step that changes less is rounding, and might be taken back and forth for ever.
SMALLEST = 1e-12


def allocate_greedily(
    choices: Choices, minimize: str, limits: Mapping[str, float]
) -> Allocation | None:
    """Start from the least cost and take the step that costs least for what it relieves the limits.

    With a limit of bytes that is the least loss for each byte saved. Within the limits, steps that
    turn out not to be needed are taken back.

    Parameters
    ----------
    choices : mapping
        Costs by layer and option, as for `allocate`.
    minimize : str
        Name of a cost.
    limits : mapping
        The largest sum of a cost, by name.

    Returns
    -------
    Allocation or None
        With a gap of 1, as nothing is proven; None where the steps end outside the limits.
    """
    chosen = {
        layer: min(options, key=lambda o: (options[o][minimize], *(options[o][n] for n in limits)))
        for layer, options in choices.items()
    }
    if not choices:
        return Allocation({}, dict.fromkeys([minimize, *limits], 0.0), 1.0)
    names = list(next(iter(next(iter(choices.values())).values())))
    sums = {name: total(choices, chosen, name) for name in names}
    while steps := list(_steps(choices, chosen, sums, minimize, limits)):
        _, layer, option = min(steps)
        chosen[layer] = option
        sums = {name: total(choices, chosen, name) for name in names}
    return None if _excess(sums, limits) else Allocation(chosen, sums, 1.0)


def _steps(
    choices: Choices,
    chosen: Mapping[str, str],
    sums: Costs,
    minimize: str,
    limits: Mapping[str, float],
) -> Iterator[Step]:
    """Changes of one layer with their price: nearer to the limits; once within, cheaper there."""
    before = _excess(sums, limits)
    for layer, now in chosen.items():
        for option, costs in choices[layer].items():
            change = {name: costs[name] - choices[layer][now][name] for name in sums}
            relief = before - _excess({n: sums[n] + change[n] for n in sums}, limits)
            if relief > SMALLEST:
                yield change[minimize] / relief, layer, option
            elif not before and not relief and change[minimize] < -SMALLEST * abs(sums[minimize]):
                yield change[minimize], layer, option


def _excess(sums: Costs, limits: Mapping[str, float]) -> float:
    """By how much the sums are above their limits, in shares of these."""
    found = 0.0
    for name, limit in limits.items():
        over = sums[name] - limit
        if over > LIMIT_TOLERANCE * abs(limit):
            found += over / (abs(limit) or 1.0)
    return found
