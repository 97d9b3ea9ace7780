"""From measured sensitivities and sizes to a plan with a reason for every layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tvm_probq.plan.plan import Plan
from tvm_probq.planning.allocate import Allocation, Choices, Costs, allocate
from tvm_probq.planning.budget import BYTES, KL, NOISE, US, Budget, Uniform
from tvm_probq.planning.greedy import allocate_greedily
from tvm_probq.planning.options import REFERENCE, Option
from tvm_probq.planning.sizes import NetworkSizes
from tvm_probq.planning.study import RUINED, Sensitivity

LOSSES = (NOISE, KL)
ROUNDING = 1e-3  # share of a network's time that sums of rounded times may differ by


@dataclass(frozen=True)
class Prices:
    """What each option of each layer costs; a further cost is one more name in `choices`.

    Attributes
    ----------
    choices : mapping
        By layer and option: the bytes of parameters, what the outputs lose, and the estimated time
        where something is known of the target.
    uniform : Uniform
        The network with w8a8 everywhere.
    reference : Sensitivity
        Of that network.
    """

    choices: Choices
    uniform: Uniform
    reference: Sensitivity

    def size_bytes(self, allocation: Allocation) -> int:
        """Parameters of the network with an allocation."""
        return self.uniform.other_bytes + int(allocation.totals[BYTES])

    def us(self, allocation: Allocation) -> float | None:
        """Estimated time of the network with an allocation; None where nothing is known."""
        us = allocation.totals.get(US)
        return None if us is None else self.uniform.other_us + us


def prices(
    names: Sequence[str],
    networks: Mapping[str, NetworkSizes],
    measured: Mapping[str, Mapping[str, Sensitivity]],
    reference: Sensitivity,
) -> Prices:
    """Join sizes, times and sensitivities by layer and option.

    The reference's option loses nothing. An option that ruins the outputs is none; one that is
    wider than the reference's may lose less than nothing.

    Parameters
    ----------
    names : sequence of str
        The layers.
    networks : mapping
        By option, the network whose layers all have it.
    measured : mapping
        Sensitivities by layer and option.
    reference : Sensitivity
        Of the network with the reference's option.
    """
    networks = _with_time_beside(names, networks)
    choices: dict[str, dict[str, dict[str, float]]] = {}
    for layer in names:
        choices[layer] = {REFERENCE: _costs(layer, networks[REFERENCE], None, reference)}
        for option, network in networks.items():
            if option != REFERENCE and measured[layer][option].added_noise < RUINED:
                found = measured[layer][option]
                found = _against_float(Option.parse(option), found, reference)
                choices[layer][option] = _costs(layer, network, found, reference)
    uniform = networks[REFERENCE]
    other_bytes = uniform.parameters - sum(uniform.layers[layer] for layer in names)
    other_us = uniform.us - sum(uniform.layers_us.get(layer, 0.0) for layer in names)
    whole = Uniform(uniform.parameters, other_bytes, uniform.us, max(0.0, other_us))
    return Prices(choices, whole, reference)


def _against_float(option: Option, found: Sensitivity, reference: Sensitivity) -> Sensitivity:
    """A sensitivity whose added losses are below 0 where an option takes errors away.

    A narrower option adds an error of its own, so the difference from the reference is what it
    loses. A wider one takes an error away; there the loss against float tells by how much.
    """
    if not option.widens:
        return found
    kl = None if found.kl is None or reference.kl is None else found.kl - reference.kl
    return replace(found, added_noise=found.noise - reference.noise, added_kl=kl)


def _with_time_beside(
    names: Sequence[str], networks: Mapping[str, NetworkSizes]
) -> dict[str, NetworkSizes]:
    """Networks whose layers also have the time that an option takes beside their kernels.

    It is divided evenly. On a GPU predictions are kernels of their own, which an option may save;
    on a CPU they are inside the layers' kernels, and this changes nothing.
    """
    rests = {
        option: n.us - sum(n.layers_us.get(layer, 0.0) for layer in names)
        for option, n in networks.items()
    }
    least, found = min(rests.values()), {}
    for option, network in networks.items():
        extra = rests[option] - least
        each = extra / len(names) if extra > ROUNDING * network.us else 0.0
        us = {layer: us + each for layer, us in network.layers_us.items()}
        found[option] = replace(network, layers_us=us)
    return found


def with_measured_times(found: Prices, tolerance: float, *, slower: bool = False) -> Prices:
    """Prices whose times are measured, and so have noise.

    An option whose time hardly differs from the reference's has the reference's; one that takes
    longer is none, or with `slower` keeps its time.

    Parameters
    ----------
    found : Prices
        With times.
    tolerance : float
        Share of a layer's time that counts as no difference.
    slower : bool, optional
        Whether to keep options that make a layer slower than the reference's does.
    """
    choices: dict[str, dict[str, Costs]] = {}
    for layer, options in found.choices.items():
        us = options[REFERENCE][US]
        choices[layer] = {
            option: {**costs, US: us} if abs(costs[US] - us) <= tolerance * us else costs
            for option, costs in options.items()
            if slower or costs[US] <= us * (1 + tolerance)
        }
    return replace(found, choices=choices)


def slower_layers(found: Prices, allocation: Allocation, tolerance: float) -> list[str]:
    """The layers that take longer than with the reference's option, by more than `tolerance`."""
    return [
        layer
        for layer, option in allocation.chosen.items()
        for options in [found.choices[layer]]
        if options[option][US] > options[REFERENCE][US] * (1 + tolerance)
    ]


def choose(found: Prices, budget: Budget, loss: str, margin: int = 0) -> Allocation:
    """The least loss within a budget, or the fewest bytes (or time) within one of the drop alone.

    `margin` are bytes to stay below the budget by.
    """
    budget.check(found.choices, found.uniform)
    least, limits = _problem(found, budget, loss, margin)
    best = allocate(found.choices, least, limits)
    if least == loss:
        return best
    # Of all that cost as little, the one that loses least.
    limits = {**limits, least: best.totals[least]}
    return replace(allocate(found.choices, loss, limits), gap=best.gap)


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
    limits = budget.limits(found.uniform, found.reference.noise)
    if BYTES in limits:
        limits[BYTES] -= margin
    if set(limits) == {NOISE}:
        return budget.least, limits
    return loss, limits


def _costs(
    layer: str, network: NetworkSizes, found: Sensitivity | None, reference: Sensitivity
) -> dict[str, float]:
    noise = 0.0 if found is None else found.added_noise
    costs = {BYTES: float(network.layers[layer]), NOISE: noise}
    if layer in network.layers_us:
        costs[US] = network.layers_us[layer]
    if reference.kl is not None:
        costs[KL] = 0.0 if found is None or found.added_kl is None else found.added_kl
    return costs


def _reason(options: Mapping[str, Mapping[str, float]], chosen: str, loss: str) -> str:
    """What the chosen option costs, and what the next ones on either side would have."""
    costs = options[chosen]
    time = f", {costs[US]:.3g} us" if US in costs else ""
    text = f"{chosen}: {costs[BYTES]:.0f} bytes{time}, adds {costs[loss]:.2g} {loss}"
    smaller = [n for n in options if options[n][BYTES] < costs[BYTES]]
    larger = [n for n in options if options[n][loss] < costs[loss] and n not in smaller]
    if smaller:
        least = min(smaller, key=lambda n: options[n][loss])
        saved, added = costs[BYTES] - options[least][BYTES], options[least][loss] - costs[loss]
        text += f"; {least} saves {saved:.0f} bytes and adds {added:.2g} more"
        if US in costs and options[least][US] > costs[US]:
            text += f", and takes {options[least][US]:.3g} us"
    if larger:
        best = min(larger, key=lambda n: options[n][BYTES])
        text += f"; {best} takes {options[best][BYTES] - costs[BYTES]:.0f} bytes more"
    return text
