"""What a layer may be given: its bits, the correction of its weights' rounding, its storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_probq.errors import PlanError
from tvm_probq.plan.plan import CORRECTIONS, STORAGES, LayerPlan, Plan, scheme_fields

REFERENCE = "w8a8"
REFERENCE_BITS = 8
FLOAT = "float"
# Kernels store weights in 8, 6, 4 or 2 bits: other widths cost what the next of these does, and 2
# bits cost more accuracy than they save bytes.
SCHEMES = ("w8a8", "w6a8", "w4a8")
CORRECTION = ":correction="
FIELDS = {"correction": CORRECTIONS, "storage": STORAGES}  # behind a scheme, as ``:name=value``
# The tables of a predicted correction may cost more than 4 bits save, and cost more than 6 do.
PREDICTED = ("w8a8", "w4a8", "w4a8:correction=leading")


@dataclass(frozen=True)
class Option:
    """One way to quantize a layer.

    Attributes
    ----------
    name : str
        A scheme such as ``w4a8``, with fields ``w4a4:correction=static:storage=packed``, or
        ``float``.
    changes : Mapping
        The fields of a `LayerPlan` that it sets.
    """

    name: str
    changes: Mapping[str, Any]

    @property
    def is_float(self) -> bool:
        """Whether the layer is computed in float."""
        return self.name == FLOAT

    @property
    def widens(self) -> bool:
        """Whether outputs may come nearer to the float network's than with the reference."""
        return self.is_float or self.changes["activation_bits"] > REFERENCE_BITS

    @classmethod
    def parse(cls, text: str) -> "Option":
        """Read a name.

        Raises
        ------
        PlanError
            When it names no scheme, or a field or value that there is not.
        """
        if text == FLOAT:
            return cls(FLOAT, {"mode": FLOAT})
        scheme, *more = text.split(":")
        fields = scheme_fields(scheme)
        if "mode" in fields:
            raise PlanError(
                f"the option {text!r} names a mode",
                fix=f"leave out its last letter, {scheme[:-1]}; the mode is that of all layers",
            )
        for part in more:
            name, _, value = part.partition("=")
            if value not in FIELDS.get(name, ()):
                known = "; ".join(f"{n}=: {', '.join(values)}" for n, values in FIELDS.items())
                raise PlanError(f"the option {text!r} has no {part!r} to choose", fix=known)
            fields[name] = value
        return cls(text, fields)

    def layer(self, base: LayerPlan) -> LayerPlan:
        """The plan of a layer with this option."""
        return Plan(base).override(["layer"], **self.changes).layer("layer")


def options_of(names: Sequence[str]) -> list[Option]:
    """Read names, each once; the reference, w8a8, is always the first.

    Raises
    ------
    PlanError
        When one is no option.
    """
    return [Option.parse(name) for name in dict.fromkeys([REFERENCE, *names])]


def default_options(mode: str) -> list[str]:
    """Names of the options that cost different numbers of bytes, in a mode."""
    if mode == "static":  # its correction is a part of the bias
        return list(SCHEMES)
    return [*PREDICTED, *(f"{scheme}{CORRECTION}static" for scheme in SCHEMES)]
