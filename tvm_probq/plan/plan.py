"""The plan: for every layer its bits, mode, surrogate and the reason, as readable TOML."""

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tvm_probq.calibration.observers import OBSERVERS
from tvm_probq.errors import PlanError
from tvm_probq.plan.widths import FIXED, WIDEST, widths
from tvm_probq.quantization.weights import GROUPED_BITS, WEIGHT_GROUPS

MODES = ("predicted", "static", "dynamic", "float")
CORRECTIONS = ("auto", "none", "static", "predicted", "leading")
SURROGATES = ("auto", "moments", "iid")
RULES = ("auto", "coverage", "mse")
ROUNDINGS = ("feedback", "nearest")
CLIPS = ("auto", "none", "mse")
STORAGES = ("bytes", "packed")
TOLERANCE_DB = 6.0
LARGEST_TOLERANCE_DB = 60.0
FINE_WEIGHT_BITS = 8  # weights of fewer bits are corrected finely
SCHEME = re.compile(r"w([2-8])(?:g([1-9][0-9]{0,3}))?a([2-9]|1[0-6])([psd]?)")
MOST_BITS = {"weight_bits": 8, "activation_bits": 16}
SUFFIX = {"p": "predicted", "s": "static", "d": "dynamic"}


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized.

    Attributes
    ----------
    weight_bits, activation_bits : int
        2 to 8, and 2 to 16; the activation is the layer's output.  From 9 bits on it is stored in
        16, if a layer reads it so.
    mode : str
        One of `MODES`.
    surrogate, rule : str
        ``auto`` picks by the error on calibration data.
    coverage : float
        Share of output values inside the interval, for the rule ``coverage``.
    rounding : str
        Of the weights: ``feedback`` makes the errors of an output channel cancel.
    weight_clip : str
        What the scale of weights covers: the largest one (``none``), or the share with the least
        squared error (``mse``); ``auto`` is ``mse`` at 5 bits and fewer.
    correction : str
        Of the weights' rounding; ``auto`` is ``predicted`` unless the mode is ``static``.
        ``leading`` predicts from the few leading directions of 8-bit weights also for fewer bits:
        smaller tables.
    observer : str
        Static range, see `OBSERVERS`.
    per_channel : bool
        One range for each channel, where the consumers allow it.
    bits : str
        Of each input's output: ``fixed`` to `activation_bits`, ``predicted`` from 2 up to them, or
        predicted from widths such as ``4,6`` and them. See `widths`.
    tolerance_db : float
        Of predicted bits: how far the noise of rounding may be above that of `activation_bits` at
        the range that calibration saw (root mean square); a bit less costs 6 dB.
    weight_group : int
        Input channels, 32, 64 or 128, that share a scale of each output channel's weights, of 2 to
        6 bits; 0 for one scale of them all, which a layer with no more input channels has anyway.
    storage : str
        Of outputs whose codes have at most 4 bits: ``bytes``, one each, or ``packed``, two in a
        byte where layers write and read them.  The codes are the same.
    reason : str
        Why.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    mode: str = "predicted"
    surrogate: str = "auto"
    rule: str = "auto"
    coverage: float = 0.999
    rounding: str = "feedback"
    weight_clip: str = "auto"
    correction: str = "auto"
    observer: str = "minmax"
    per_channel: bool = False
    bits: str = FIXED
    tolerance_db: float = TOLERANCE_DB
    weight_group: int = 0
    storage: str = "bytes"
    reason: str = ""

    def __post_init__(self) -> None:
        _check("mode", self.mode, MODES)
        _check("surrogate", self.surrogate, SURROGATES)
        _check("rule", self.rule, RULES)
        _check("rounding", self.rounding, ROUNDINGS)
        _check("weight_clip", self.weight_clip, CLIPS)
        _check("correction", self.correction, CORRECTIONS)
        _check("storage", self.storage, STORAGES)
        _check("observer", self.observer, tuple(OBSERVERS))
        for name, most in MOST_BITS.items():
            if not 2 <= getattr(self, name) <= most:
                raise PlanError(f"{name} is {getattr(self, name)}", fix=f"use 2 to {most} bits")
        self._check_group()
        if not 0.5 <= self.coverage < 1.0:
            raise PlanError(f"coverage is {self.coverage}", fix="use a share such as 0.999")
        if not 0.0 <= self.tolerance_db <= LARGEST_TOLERANCE_DB:
            raise PlanError(
                f"tolerance_db is {self.tolerance_db}",
                fix=f"use decibels from 0 to {LARGEST_TOLERANCE_DB:g}, such as {TOLERANCE_DB:g}",
            )
        self._check_ranges()

    def _check_group(self) -> None:
        if self.weight_group not in (0, *WEIGHT_GROUPS):
            sizes = ", ".join(map(str, WEIGHT_GROUPS))
            fix = f"use one of {sizes} input channels, or 0 for one scale an output channel"
            raise PlanError(f"weight_group is {self.weight_group}", fix=fix)
        if self.weight_group and self.weight_bits not in GROUPED_BITS:
            raise PlanError(
                f"weight_group is {self.weight_group}, but weight_bits is {self.weight_bits}",
                why="scales of groups multiply codes to at most 8 bits, which 7 and 8 bits fill",
                fix=f"use at most {GROUPED_BITS[-1]} bits, or weight_group = 0",
            )

    def _check_ranges(self) -> None:
        picks = len(self.widths) > 1
        if self.per_channel and (self.mode == "dynamic" or picks):
            raise PlanError(
                "per-channel ranges go with the modes static and predicted, at one bit-width",
                why="a measured range and a predicted bit-width are those of a whole tensor",
                fix="leave out per_channel, or choose another mode",
            )
        if picks and self.activation_bits > WIDEST:
            raise PlanError(
                f"bits is {self.bits!r}, but activation_bits is {self.activation_bits}",
                why=f"predicted bit-widths end at {WIDEST}: beyond, 16 bits are stored in any case",
                fix=f'use bits = "fixed", or activation_bits of at most {WIDEST}',
            )
        if picks and self.mode in ("static", "dynamic"):
            raise PlanError(
                f"bits is {self.bits!r}, but the mode is {self.mode}",
                why="only a predicted range tells the width that an input needs",
                fix='use the mode predicted, or bits = "fixed"',
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Bit-widths that the layer's output may have, ascending."""
        return widths(self.bits, self.activation_bits)

    @property
    def corrects_finely(self) -> bool:
        """Whether a predicted correction reads more than the few leading directions."""
        predicted = self.rounding_correction == "predicted"
        return predicted and self.weight_bits < FINE_WEIGHT_BITS and self.correction != "leading"

    @property
    def rounding_correction(self) -> str:
        """``none``, ``static`` or ``predicted``."""
        if self.correction != "auto":
            return "predicted" if self.correction == "leading" else self.correction
        return "static" if self.mode == "static" else "predicted"


@dataclass(frozen=True)
class Plan:
    """A default for every layer and exceptions by name."""

    default: LayerPlan = field(default_factory=LayerPlan)
    layers: dict[str, LayerPlan] = field(default_factory=dict)

    @property
    def quantizes(self) -> bool:
        """Whether any layer may be quantized."""
        return any(layer.mode != "float" for layer in (self.default, *self.layers.values()))

    def layer(self, name: str) -> LayerPlan:
        """The plan of the layer `name`."""
        return self.layers.get(name, self.default)

    def override(self, names: Iterable[str], **changes: Any) -> "Plan":
        """Change fields of `LayerPlan` for some layers.

        Raises
        ------
        PlanError
            When a value is invalid.
        """
        layers = {name: replace(self.layer(name), **changes) for name in names}
        return Plan(self.default, self.layers | layers)

    @property
    def scheme(self) -> str:
        """Such as ``w8a8`` or ``w4g64a8``, of the default."""
        group = f"g{self.default.weight_group}" if self.default.weight_group else ""
        return f"w{self.default.weight_bits}{group}a{self.default.activation_bits}"

    def to_toml(self) -> str:
        """Readable text, the same for equal plans."""
        lines = ["[default]", *_lines(self.default, None)]
        for name, layer in self.layers.items():
            lines += ["", f"[layers.{_toml(name)}]", *_lines(layer, self.default)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str, where: str = "plan") -> "Plan":
        """Read a plan.

        Raises
        ------
        PlanError
            For text that is no TOML, unknown keys and values out of range.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PlanError("the plan is no TOML", where=where, why=str(error)) from error
        unknown = sorted(set(data) - {"default", "layers"})
        if unknown:
            fix = "use default, layers"
            raise PlanError(f"unknown section {unknown[0]!r}", where=where, fix=fix)
        default = _layer_plan(LayerPlan(), data.get("default", {}), f"{where}, default")
        layers = {
            name: _layer_plan(default, values, f"{where}, layer {name}")
            for name, values in _table(data.get("layers", {}), f"{where}, layers").items()
        }
        return cls(default, layers)

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan file."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError("the plan cannot be read", where=str(path), why=str(error)) from error
        return cls.from_toml(text, str(path))


def plan_of(scheme: str, mode: str | None = None, **options: Any) -> Plan:
    """A uniform plan.

    Parameters
    ----------
    scheme : str
        ``w4a8``, ``w8a16``, or ``w4g64a8`` with scales of groups of 64 input channels; with an
        optional suffix for the mode: ``p`` predicted, ``s`` static or ``d`` dynamic.
    mode : str, optional
        One of `MODES`; predicted if neither it nor the suffix says otherwise.
    **options
        Further fields of `LayerPlan`.

    Raises
    ------
    PlanError
        When the scheme is not one, or contradicts the mode.
    """
    named = scheme_fields(scheme)
    suffix = named.get("mode")
    if mode is not None and suffix not in (None, mode):
        raise PlanError(f"scheme {scheme} is {suffix}, but the mode asked is {mode}")
    return Plan(LayerPlan(**{**named, **options, "mode": mode or suffix or "predicted"}))


def scheme_fields(scheme: str) -> dict[str, Any]:
    """The fields of `LayerPlan` that a scheme such as ``w4a8`` or ``w4a8s`` names.

    Raises
    ------
    PlanError
        When the scheme is not one.
    """
    match = SCHEME.fullmatch(scheme)
    if match is None:
        raise PlanError(f"{scheme!r} is no scheme", fix="write w8a8, w4g64a8, w8a4s and the like")
    weight_bits, group, activation_bits, suffix = match.groups()
    named = {
        "weight_bits": int(weight_bits),
        "activation_bits": int(activation_bits),
        "weight_group": int(group or 0),
    }
    return {**named, "mode": SUFFIX[suffix]} if suffix else named


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlanError(f"{value!r} is no table", where=where, fix="write [default], [layers.name]")
    return value


def _layer_plan(base: LayerPlan, given: Any, where: str) -> LayerPlan:
    values = dict(_table(given, where))
    known = {f.name: f for f in fields(LayerPlan)}
    for name, value in values.items():
        if name not in known:
            raise PlanError(f"unknown key {name!r}", where=where, fix=f"use {', '.join(known)}")
        wanted = type(getattr(base, name))
        if wanted is tuple and isinstance(value, list):
            values[name] = tuple(value)
        elif not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            kind = "list of numbers" if wanted is tuple else wanted.__name__
            raise PlanError(f"{name} is {value!r}", where=where, fix=f"give a {kind}")
    try:
        return replace(base, **values)
    except PlanError as error:
        raise PlanError(error.what, where=where, why=error.why, fix=error.fix) from error


def _lines(layer: LayerPlan, base: LayerPlan | None) -> list[str]:
    """Keys that differ from `base`, or all of them without."""
    return [
        f"{name} = {_toml(value)}"
        for name, value in asdict(layer).items()
        if base is None or value != getattr(base, name)
    ]


def _toml(value: Any) -> str:
    """A value in TOML, whose strings differ from JSON's in two points."""
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PlanError(f"{name} is {value!r}", fix=f"use one of {', '.join(allowed)}")
