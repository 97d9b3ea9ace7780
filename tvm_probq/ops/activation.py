"""Activations as text, the form in which operators carry them as an attribute."""

import re

from tvm_probq.errors import KernelError
from tvm_probq.simulator.numerics import Activation
from tvm_probq.simulator.smooth import SMOOTH

PLAIN_KINDS = ("none", "hard_swish", "hard_sigmoid", *SMOOTH)
FORMS = ("clip(LOW,HIGH)", "leaky(SLOPE)", *PLAIN_KINDS)
_PARAMETERS = re.compile(r"(clip|leaky)\(([^()]+)\)")


def parse_activation(text: str) -> Activation:
    """Read an activation written by :func:`format_activation`.

    Parameters
    ----------
    text : str
        ``"none"``, ``"clip(LOW,HIGH)"`` (either end may be infinite), ``"leaky(SLOPE)"`` (0 <
        SLOPE < 1, the factor of negative values), ``"hard_swish"``, ``"hard_sigmoid"``,
        ``"sigmoid"``, ``"silu"``, ``"tanh"`` or ``"gelu"``.

    Returns
    -------
    Activation
        The activation as the simulator defines it.

    Raises
    ------
    KernelError
        When the text is none of these, or a number in it is none or out of bounds.
    """
    if text in PLAIN_KINDS:
        return Activation(text)
    kind, numbers = _parameters(text)
    if kind == "clip" and len(numbers) == 2 and numbers[0] <= numbers[1]:
        return Activation(kind, *numbers)
    if kind == "leaky" and len(numbers) == 1 and 0.0 < numbers[0] < 1.0:
        return Activation(kind, slope=numbers[0])
    raise KernelError(
        f"{text!r} is no activation",
        where="activation",
        why="it must be a known kind, a clip with ordered ends or a slope between 0 and 1",
        fix=f"write one of {', '.join(FORMS)}",
    )


def _parameters(text: str) -> tuple[str, list[float]]:
    """Kind and numbers of an activation that has any, none of either for all other texts."""
    match = _PARAMETERS.fullmatch(text)
    try:
        return (match[1], [float(n) for n in match[2].split(",")]) if match else ("", [])
    except ValueError:
        return "", []


def format_activation(activation: Activation) -> str:
    """Write an activation so that :func:`parse_activation` gives the same back.

    Parameters
    ----------
    activation : Activation
        The activation; `low` and `high` matter for a clip alone, `slope` for a leaky ReLU.

    Returns
    -------
    str
        Its text, floats in their shortest exact form, infinities as ``inf`` and ``-inf``.

    Raises
    ------
    KernelError
        When the kind is unknown.
    """
    if activation.kind == "clip":
        return f"clip({float(activation.low)!r},{float(activation.high)!r})"
    if activation.kind == "leaky":
        return f"leaky({float(activation.slope)!r})"
    if activation.kind not in PLAIN_KINDS:
        raise KernelError(
            f"unknown activation {activation.kind!r}",
            where="activation",
            fix=f"use clip, leaky or one of {', '.join(PLAIN_KINDS)}",
        )
    return activation.kind
