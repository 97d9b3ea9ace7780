"""The options that make a plan."""

from __future__ import annotations

import argparse
import difflib
import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tvm_probq.calibration.observers import OBSERVERS
from tvm_probq.errors import PlanError, UsageError
from tvm_probq.plan.plan import (
    CLIPS,
    CORRECTIONS,
    MODES,
    ROUNDINGS,
    RULES,
    STORAGES,
    SURROGATES,
    TOLERANCE_DB,
    Plan,
    plan_of,
    scheme_fields,
)
from tvm_probq.plan.widths import FIXED
from tvm_probq.target.profile import TargetProfile

DEFAULT_SCHEME = "w8a8"
# Options that are fields of a layer's plan, by the name of the field.
FIELDS = (
    "surrogate",
    "rule",
    "coverage",
    "rounding",
    "weight_clip",
    "correction",
    "observer",
    "per_channel",
    "tolerance_db",
    "storage",
)
# Options that have no meaning where a file's own parameters are kept, as those of the plan.
CALIBRATING = ("calibration", "random_calibration", "data", "skip")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the options; all are None where they are not given."""
    group = parser.add_argument_group("how to quantize")
    group.add_argument(
        "--mode",
        action="append",
        default=[],
        metavar="[LAYERS=]MODE",
        help=f"of activations: {', '.join(MODES)} (default predicted); with a layer's name or a "
        "pattern, for these layers; may be given again",
    )
    group.add_argument(
        "--scheme",
        action="append",
        default=[],
        metavar="[LAYERS=]SCHEME",
        help=f"bits, such as w4a8 (default {DEFAULT_SCHEME}); for layers as --mode",
    )
    group.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYERS",
        help="layers that stay float, by name or pattern; may be given again",
    )
    group.add_argument("--plan", type=Path, help="a plan (TOML) instead of all these options")
    group.add_argument("--surrogate", choices=SURROGATES, help="predicts ranges (default auto)")
    group.add_argument("--rule", choices=RULES, help="fits the interval (default auto)")
    group.add_argument(
        "--coverage", type=float, metavar="SHARE", help="of values inside, for the rule coverage"
    )
    group.add_argument("--rounding", choices=ROUNDINGS, help="of weights (default feedback)")
    group.add_argument("--weight-clip", choices=CLIPS, help="of weights (default auto)")
    group.add_argument("--correction", choices=CORRECTIONS, help="of the weights' rounding")
    group.add_argument("--observer", choices=tuple(OBSERVERS), help="of static ranges")
    group.add_argument(
        "--per-channel", action="store_true", default=None, help="one range a channel where allowed"
    )
    group.add_argument(
        "--bits",
        action="append",
        default=[],
        metavar="[LAYERS=]BITS",
        help="of each input's activations: fixed (default), predicted (from 2 to the scheme's), or "
        "predicted from widths such as 4,6; for layers as --mode",
    )
    group.add_argument(
        "--tolerance-db",
        type=float,
        metavar="DB",
        help="how far predicted bits may raise the noise of rounding; a bit less costs 6 dB "
        f"(default {TOLERANCE_DB:g})",
    )
    group.add_argument(
        "--storage",
        choices=STORAGES,
        help="of activations of at most 4 bits: a byte each (default), or packed two in a byte",
    )


def plan_from(args: argparse.Namespace) -> Plan:
    """Make the plan, but for what is said of single layers (`override_layers`).

    Raises
    ------
    UsageError
        If a plan and options that contradict it are given, or one twice.
    PlanError
        If a value is invalid.
    """
    given = {name: getattr(args, name) for name in FIELDS if getattr(args, name) is not None}
    mode, scheme, bits = (_of_all(name, getattr(args, name)) for name in ("mode", "scheme", "bits"))
    if args.plan is None:
        return plan_of(scheme or DEFAULT_SCHEME, mode, bits=bits or FIXED, **given)
    said = {"mode": mode, "scheme": scheme, "bits": bits}
    extra = [name for name, value in said.items() if value] + list(given)
    if extra:
        raise UsageError(
            f"--plan and --{extra[0].replace('_', '-')} are both given",
            fix="leave one out; the plan says everything",
        )
    return Plan.load(args.plan)


def kept_plan(args: argparse.Namespace, model: str) -> Plan:
    """Make the plan of a model that keeps the parameters of its file.

    Raises
    ------
    UsageError
        If an option is given that decides what the file does.
    """
    harmless = {"mode": ("static", "float"), "scheme": ("w8a8", "w8a8s"), "bits": (FIXED,)}
    for name in ("mode", "scheme", "bits", "plan", *FIELDS, *CALIBRATING):
        value = getattr(args, name, None)
        given = value if isinstance(value, list) else [value]
        if any(v not in (None, *harmless.get(name, ())) for v in given):
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the model is quantized already",
                where=model,
                why="its own scales, zero-points and codes of weights are kept",
                fix="leave the option out, or give --requantize to take the model as the float one "
                "that it stands for",
            )
    return plan_of(DEFAULT_SCHEME, _of_all("mode", args.mode) or "static")


def override_layers(plan: Plan, args: argparse.Namespace, names: Sequence[str]) -> Plan:
    """Change the plan of single layers, as ``--mode``, ``--scheme``, ``--bits``, ``--skip`` say.

    A layer that is given another mode than ``predicted`` has no predicted bits any more.

    Parameters
    ----------
    plan : Plan
        From `plan_from`.
    args : argparse.Namespace
        The options of `add_plan`.
    names : sequence of str
        The layers of the model.

    Raises
    ------
    UsageError
        If a pattern matches no layer.
    PlanError
        If a value is invalid.
    """
    changes: list[tuple[str, str, str, Callable[[str], dict[str, Any]]]]
    changes = [("scheme", *_of_layers(v), _scheme_fields) for v in args.scheme if "=" in v]
    changes += [("mode", *_of_layers(v), _mode_fields) for v in args.mode if "=" in v]
    changes += [("bits", *_of_layers(v), _bits_fields) for v in args.bits if "=" in v]
    changes += [("skip", v, "float", _mode_fields) for v in args.skip]
    for option, pattern, value, to_fields in changes:
        reason = f"--skip {pattern}" if option == "skip" else f"--{option} {pattern}={value}"
        found = matching(names, pattern, f"--{option}")
        plan = plan.override(found, **to_fields(value), reason=reason)
    return plan


def matching(names: Sequence[str], pattern: str, option: str) -> list[str]:
    """The layers that a name or a pattern such as ``*/depth_conv/*`` stands for.

    Raises
    ------
    UsageError
        If there are none.
    """
    found = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
    if not found:
        near = difflib.get_close_matches(pattern, names) or list(names[:3])
        raise UsageError(
            f"{option} {pattern} matches no layer",
            fix=f"give a layer or a pattern of layers, such as {', '.join(near)}"
            if near
            else "leave it out: the model has no layers to quantize",
        )
    return found


def _of_all(option: str, given: Sequence[str]) -> str | None:
    """The value of an option that is said of no single layers."""
    values = [value for value in given if "=" not in value]
    if len(values) > 1:
        raise UsageError(f"--{option} is given {len(values)} times", fix="give it once for all")
    if not values:
        return None
    if option == "mode":
        _mode_fields(values[0])
    return values[0]


def _of_layers(text: str) -> tuple[str, str]:
    pattern, _, value = text.rpartition("=")
    return pattern, value


def _mode_fields(mode: str) -> dict[str, Any]:
    if mode not in MODES:
        raise PlanError(f"{mode!r} is no mode", fix=f"use one of {', '.join(MODES)}")
    return {"mode": mode} if mode == "predicted" else {"mode": mode, "bits": FIXED}


def _bits_fields(bits: str) -> dict[str, Any]:
    return {"bits": bits}


def _scheme_fields(scheme: str) -> dict[str, Any]:
    named = scheme_fields(scheme)
    return {**named, **_mode_fields(named["mode"])} if "mode" in named else named


def check_target(plan: Plan, profile: TargetProfile) -> None:
    """Raise a TargetError unless the target has kernels for all that a plan asks for."""
    layers = {"the plan's default": plan.default}
    layers |= {f"the plan's layer {name}": layer for name, layer in plan.layers.items()}
    for where, layer in layers.items():
        if layer.mode != "float":
            profile.require_group(layer.weight_group, where=where)
            profile.require_storage(layer.storage, where=where)
        for bits in layer.widths:
            if layer.mode != "float":
                profile.require_bits(layer.weight_bits, bits, where=where)
