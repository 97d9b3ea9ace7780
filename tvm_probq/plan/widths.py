"""The bit-widths that a layer's output may have: one for all inputs, or one predicted for each."""

from collections.abc import Sequence

from tvm_probq.errors import PlanError

FIXED, PREDICTED = "fixed", "predicted"
NARROWEST, WIDEST = 2, 8


def widths(bits: str, activation_bits: int) -> tuple[int, ...]:
    """The allowed widths, ascending; the last one is `activation_bits`.

    Parameters
    ----------
    bits : str
        ``fixed`` for that one alone, ``predicted`` for all from 2 bits up to it, or such as
        ``4,6`` for these, as far as they are narrower, and it.
    activation_bits : int
        The widest.

    Raises
    ------
    PlanError
        When `bits` is none of these.
    """
    if bits == FIXED:
        return (activation_bits,)
    if bits == PREDICTED:
        return tuple(range(NARROWEST, activation_bits + 1))
    return (*(b for b in _listed(bits) if b < activation_bits), activation_bits)


def widths_text(allowed: Sequence[int]) -> str:
    """Allowed widths, ascending, in short: ``2-8``, ``4,6,8`` or ``8``."""
    first, last = allowed[0], allowed[-1]
    if len(allowed) > 1 and list(allowed) == list(range(first, last + 1)):
        return f"{first}-{last}"
    return ",".join(map(str, allowed))


def _listed(bits: str) -> list[int]:
    parts = [part.strip() for part in bits.split(",")]
    listed = [int(part) for part in parts if part.isascii() and part.isdigit()]
    known = len(listed) == len(parts) and all(NARROWEST <= b <= WIDEST for b in listed)
    if not known or listed != sorted(set(listed)):
        raise PlanError(
            f"bits is {bits!r}",
            fix="use fixed, predicted, or widths of 2 to 8 bits, ascending, such as 4,6,8",
        )
    return listed
