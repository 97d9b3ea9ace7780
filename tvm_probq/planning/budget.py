"""What a plan may cost, as ``size=0.6`` or ``drop=0.5``, to limits on sums of costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_probq.errors import PlanError
from tvm_probq.planning.allocate import Choices

SIZE, DROP, PEAK = "size", "drop", "peak"
KINDS = (SIZE, DROP, PEAK)
BYTES, NOISE, KL = "parameter_bytes", "noise", "kl"
FIX = (
    "write size=0.6 (of uniform w8a8), size=150000 (bytes), drop=0.5 (dB) or peak=65536 (bytes of "
    "activations)"
)


@dataclass(frozen=True)
class Budget:
    """The largest parameter bytes, loss of signal-to-noise and peak of activations.

    Attributes
    ----------
    size : float or None
        Parameter bytes, or up to 1 their share of those of w8a8.
    drop : float or None
        In dB.
    peak : float or None
        Bytes. It is no sum over layers, so no limit of the allocation: plans are checked.
    """

    size: float | None = None
    drop: float | None = None
    peak: float | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Budget":
        """Read ``KIND=NUMBER``, each kind at most once.

        Raises
        ------
        PlanError
            For an unknown kind, no positive number, or one given twice.
        """
        found: dict[str, float] = {}
        for text in texts:
            kind, _, number = text.partition("=")
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if kind not in KINDS or not 0 < value < math.inf:
                raise PlanError(f"{text!r} is no budget", where="--budget", fix=FIX)
            if kind in found:
                raise PlanError(f"two budgets of {kind} are given", where="--budget", fix=FIX)
            found[kind] = value
        if not found:
            raise PlanError("no budget is given", where="--budget", fix=FIX)
        return cls(**found)

    def size_bytes(self, uniform_bytes: int) -> float | None:
        """Largest parameter bytes, of a network that has `uniform_bytes` with w8a8."""
        if self.size is None:
            return None
        return self.size * uniform_bytes if self.size <= 1 else self.size

    def added_noise(self, noise: float) -> float | None:
        """Noise that may be added to `noise`, relative to the signal as that is."""
        return None if self.drop is None else noise * (10 ** (self.drop / 10) - 1)

    def limits(self, uniform_bytes: int, other_bytes: int, noise: float) -> dict[str, float]:
        """Limits on sums over layers, where `other_bytes` are those of no layer."""
        found = {}
        size, added = self.size_bytes(uniform_bytes), self.added_noise(noise)
        if size is not None:
            found[BYTES] = size - other_bytes
        if added is not None:
            found[NOISE] = added
        return found

    def check(self, choices: Choices, uniform_bytes: int, other_bytes: int) -> None:
        """Raise a PlanError where even the smallest options are too large."""
        size = self.size_bytes(uniform_bytes)
        least = other_bytes + sum(
            min(costs[BYTES] for costs in options.values()) for options in choices.values()
        )
        if size is not None and least > size:
            raise PlanError(
                f"the budget of {size:.0f} bytes cannot be met", where="--budget",
                why=f"the smallest options take {least:.0f} bytes, {least / uniform_bytes:.3f} of "
                f"the {uniform_bytes} of uniform w8a8",
                fix="allow more, or offer narrower options with --option",
            )  # fmt: skip

    def __str__(self) -> str:
        """As it is written."""
        parts: Mapping[str, float | None] = {SIZE: self.size, DROP: self.drop, PEAK: self.peak}
        return " ".join(f"{kind}={value:g}" for kind, value in parts.items() if value is not None)
