"""From measured sensitivities and sizes to a plan with a reason for every layer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tvm_probq.plan.plan import Plan
from tvm_probq.planning.allocate import Allocation, Choices, allocate
from tvm_probq.planning.budget import BYTES, KL, NOISE, Budget
from tvm_probq.planning.greedy import allocate_greedily
from tvm_probq.planning.options import REFERENCE, Option
from tvm_probq.planning.study import RUINED, Sensitivity

LOSSES = (NOISE, KL)


@dataclass(frozen=True)
class Prices:
    """What each option of each layer costs; a further cost is one more name in `choices`.

    Attributes
    ----------
    choices : mapping
        By layer and option: the bytes of parameters, and what the outputs lose.
    uniform_bytes : int
        Parameters of the network with w8a8 everywhere.
    other_bytes : int
        Parameters of no layer.
    reference : Sensitivity
        Of the network with w8a8 everywhere.
    """

    choices: Choices
    uniform_bytes: int
    other_bytes: int
    reference: Sensitivity

    def size_bytes(self, allocation: Allocation) -> int:
        """Parameters of the network with an allocation."""
        return self.other_bytes + int(allocation.totals[BYTES])


def prices(
    sizes: Mapping[str, Mapping[str, int]],
    uniform_bytes: int,
    measured: Mapping[str, Mapping[str, Sensitivity]],
    reference: Sensitivity,
) -> Prices:
    """Join sizes and sensitivities by layer and option; the reference's option loses nothing.

    An option that ruins the outputs is none.
    """
    choices: dict[str, dict[str, dict[str, float]]] = {}
    for layer, options in sizes.items():
        choices[layer] = {REFERENCE: _costs(options[REFERENCE], None, reference)}
        for option, size in options.items():
            if option != REFERENCE and measured[layer][option].added_noise < RUINED:
                choices[layer][option] = _costs(size, measured[layer][option], reference)
    of_layers = sum(options[REFERENCE] for options in sizes.values())
    return Prices(choices, uniform_bytes, uniform_bytes - of_layers, reference)


def choose(found: Prices, budget: Budget, loss: str, margin: int = 0) -> Allocation:
    """The least loss within a budget, or the fewest bytes within one of the drop without a size.

    `margin` are bytes to stay below the budget by.
    """
    budget.check(found.choices, found.uniform_bytes, found.other_bytes)
    return allocate(found.choices, *_problem(found, budget, loss, margin))


def choose_greedily(found: Prices, budget: Budget, loss: str, margin: int = 0) -> Allocation | None:
    """The same by steps, to check with; None where the steps end outside the budget."""
    return allocate_greedily(found.choices, *_problem(found, budget, loss, margin))


def plan_of_allocation(base: Plan, found: Prices, allocation: Allocation, loss: str) -> Plan:
    """The plan, with a reason for every layer that had a choice."""
    layers = dict(base.layers)
    for layer, name in allocation.chosen.items():
        changed = Option.parse(name).layer(base.layer(layer))
        layers[layer] = replace(changed, reason=_reason(found.choices[layer], name, loss))
    return Plan(base.default, layers)


def _problem(found: Prices, budget: Budget, loss: str, margin: int) -> tuple[str, dict[str, float]]:
    """What is to be least, and the limits of the rest."""
    limits = budget.limits(found.uniform_bytes, found.other_bytes, found.reference.noise)
    if BYTES in limits:
        limits[BYTES] -= margin
    return BYTES if NOISE in limits and BYTES not in limits else loss, limits


def _costs(size: int, found: Sensitivity | None, reference: Sensitivity) -> dict[str, float]:
    costs = {BYTES: float(size), NOISE: 0.0 if found is None else found.added_noise}
    if reference.kl is not None:
        costs[KL] = 0.0 if found is None or found.added_kl is None else found.added_kl
    return costs


def _reason(options: Mapping[str, Mapping[str, float]], chosen: str, loss: str) -> str:
    """What the chosen option costs, and what the next ones on either side would have."""
    costs = options[chosen]
    text = f"{chosen}: {costs[BYTES]:.0f} bytes, adds {costs[loss]:.2g} {loss}"
    smaller = [n for n in options if options[n][BYTES] < costs[BYTES]]
    larger = [n for n in options if options[n][loss] < costs[loss] and n not in smaller]
    if smaller:
        least = min(smaller, key=lambda n: options[n][loss])
        saved, added = costs[BYTES] - options[least][BYTES], options[least][loss] - costs[loss]
        text += f"; {least} saves {saved:.0f} bytes and adds {added:.2g} more"
    if larger:
        best = min(larger, key=lambda n: options[n][BYTES])
        text += f"; {best} takes {options[best][BYTES] - costs[BYTES]:.0f} bytes more"
    return text
