"""What a plan may cost, as ``size=0.6`` or ``drop=0.5``, to limits on sums of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_probq.errors import PlanError
from tvm_probq.planning.allocate import Choices

SIZE, LATENCY, DROP, PEAK = "size", "latency", "drop", "peak"
KINDS = (SIZE, LATENCY, DROP, PEAK)
BYTES, US, NOISE, KL = "parameter_bytes", "latency_us", "noise", "kl"
TOLERANCE = 1e-9  # a share of 1 must not fail by the order in which floats are added
FIX = (
    "write size=0.6 or latency=0.9 (of uniform w8a8), size=150000 (bytes), latency=350 "
    "(microseconds), drop=0.5 (dB, below 0 for better than w8a8) or peak=65536 (bytes of "
    "activations)"
)


@dataclass(frozen=True)
class Uniform:
    """The network with w8a8 everywhere.

    Attributes
    ----------
    parameter_bytes, other_bytes : int
        Of the whole, and of what belongs to no layer.
    us, other_us : float
        Estimated microseconds, likewise; 0 where nothing is known of the target.
    """

    parameter_bytes: int
    other_bytes: int
    us: float = 0.0
    other_us: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The largest parameter bytes, latency, loss of signal-to-noise and peak of activations.

    Attributes
    ----------
    size : float or None
        Parameter bytes, or up to 1 their share of those of w8a8.
    latency : float or None
        Microseconds, or up to 1 their share of those of w8a8.
    drop : float or None
        In dB; below 0 the outputs have to be better than with w8a8, which takes wider options.
    least : str
        What is made least within a drop alone: the bytes or the latency.
    peak : float or None
        Bytes. It is no sum over layers, so no limit of the allocation: plans are checked.
    """

    size: float | None = None
    latency: float | None = None
    drop: float | None = None
    peak: float | None = None
    least: str = BYTES

    @classmethod
    def parse(cls, texts: Sequence[str], least: str = BYTES) -> Budget:
        """Read ``KIND=NUMBER``, each kind at most once.

        Raises
        ------
        PlanError
            For an unknown kind, a number that is not positive (but for a drop), or a kind given
            twice.
        """
        found: dict[str, float] = {}
        for text in texts:
            kind, _, number = text.partition("=")
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            least_value = -math.inf if kind == DROP else 0
            if kind not in KINDS or not least_value < value < math.inf or not value:
                raise PlanError(f"{text!r} is no budget", where="--budget", fix=FIX)
            if kind in found:
                raise PlanError(f"two budgets of {kind} are given", where="--budget", fix=FIX)
            found[kind] = value
        if not found:
            raise PlanError("no budget is given", where="--budget", fix=FIX)
        return cls(**found, least=least)

    def size_bytes(self, uniform_bytes: int) -> float | None:
        """Largest parameter bytes, of a network that has `uniform_bytes` with w8a8."""
        if self.size is None:
            return None
        return self.size * uniform_bytes if self.size <= 1 else self.size

    def latency_us(self, uniform_us: float) -> float | None:
        """Longest estimated run, of a network that takes `uniform_us` with w8a8."""
        if self.latency is None:
            return None
        return self.latency * uniform_us if self.latency <= 1 else self.latency

    def added_noise(self, noise: float) -> float | None:
        """Noise that may be added to `noise`, relative to the signal as that is."""
        return None if self.drop is None else noise * (10 ** (self.drop / 10) - 1)

    def limits(self, uniform: Uniform, noise: float) -> dict[str, float]:
        """Limits on sums over layers."""
        size, us = self.size_bytes(uniform.parameter_bytes), self.latency_us(uniform.us)
        found = {
            BYTES: None if size is None else size - uniform.other_bytes,
            US: None if us is None else us - uniform.other_us,
            NOISE: self.added_noise(noise),
        }
        return {name: limit for name, limit in found.items() if limit is not None}

    def check(self, choices: Choices, uniform: Uniform) -> None:
        """Raise a PlanError where even the smallest or fastest options are too much."""
        size, us = self.size_bytes(uniform.parameter_bytes), self.latency_us(uniform.us)
        least = uniform.other_bytes + _least(choices, BYTES)
        if size is not None and least > size * (1 + TOLERANCE):
            whole = uniform.parameter_bytes
            raise PlanError(
                f"the budget of {size:.0f} bytes cannot be met", where="--budget",
                why=f"the smallest options take {least:.0f} bytes, {least / whole:.3f} of the "
                f"{whole} of uniform w8a8",
                fix="allow more, or offer narrower options with --option",
            )  # fmt: skip
        if us is None:
            return
        fastest = uniform.other_us + _least(choices, US)
        if fastest > us * (1 + TOLERANCE):
            raise PlanError(
                f"the budget of {us:.4g} us cannot be met", where="--budget",
                why=f"the fastest options take {fastest:.4g} us, {fastest / uniform.us:.3f} of the "
                f"{uniform.us:.4g} of uniform w8a8",
                fix="allow more; `plan --budget drop=10 --least latency` shows what can be reached",
            )  # fmt: skip

    def __str__(self) -> str:
        """As it is written."""
        parts: Mapping[str, float | None] = {kind: getattr(self, kind) for kind in KINDS}
        given = {kind: value for kind, value in parts.items() if value is not None}
        return " ".join(f"{kind}={value:.12g}" for kind, value in given.items())


def _least(choices: Choices, cost: str) -> float:
    return sum(min(costs[cost] for costs in options.values()) for options in choices.values())
