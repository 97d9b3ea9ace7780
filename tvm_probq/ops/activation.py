"""Activations as text, the form in which operators carry them as an attribute."""

import math
import re

from tvm_probq.errors import KernelError
from tvm_probq.simulator.numerics import Activation

PLAIN_KINDS = ("none", "hard_swish", "hard_sigmoid")
_CLIP = re.compile(r"clip\(([^,()]+),([^,()]+)\)")


def parse_activation(text: str) -> Activation:
    """Read an activation written by :func:`format_activation`.

    Parameters
    ----------
    text : str
        ``"none"``, ``"clip(LOW,HIGH)"`` (either end may be infinite), ``"hard_swish"`` or
        ``"hard_sigmoid"``.

    Returns
    -------
    Activation
        The activation as the simulator defines it.

    Raises
    ------
    KernelError
        When the text is none of these, or the clip holds no number.
    """
    if text in PLAIN_KINDS:
        return Activation(text)
    match = _CLIP.fullmatch(text)
    try:
        low, high = (float(end) for end in match.groups()) if match else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if not low <= high:
        raise KernelError(
            f"{text!r} is no activation",
            where="activation",
            why="it must be a known kind, or a clip with ordered ends",
            fix='write "none", "clip(LOW,HIGH)", "hard_swish" or "hard_sigmoid"',
        )
    return Activation("clip", low, high)


def format_activation(activation: Activation) -> str:
    """Write an activation so that :func:`parse_activation` gives the same back.

    Parameters
    ----------
    activation : Activation
        The activation; `low` and `high` matter for a clip alone.

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
    if activation.kind not in PLAIN_KINDS:
        raise KernelError(
            f"unknown activation {activation.kind!r}",
            where="activation",
            fix=f"use clip or one of {', '.join(PLAIN_KINDS)}",
        )
    return activation.kind
