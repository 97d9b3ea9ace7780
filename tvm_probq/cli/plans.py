"""The options that make a plan."""

from __future__ import annotations

import argparse
import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tvm_probq.calibration.observers import OBSERVERS
from tvm_probq.cli.options import widths
from tvm_probq.errors import UsageError
from tvm_probq.plan.plan import (
    CORRECTIONS,
    MODES,
    ROUNDINGS,
    RULES,
    SURROGATES,
    Plan,
    plan_of,
)
from tvm_probq.target.profile import TargetProfile

DEFAULT_SCHEME = "w8a8"
# Options that are fields of a layer's plan, by the name of the field.
FIELDS = (
    "surrogate",
    "rule",
    "coverage",
    "rounding",
    "correction",
    "observer",
    "per_channel",
    "bits_from",
)
# Options that have no meaning where a file's own parameters are kept, as those of the plan.
CALIBRATING = ("calibration", "random_calibration", "data", "skip")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the options; all are None where they are not given."""
    group = parser.add_argument_group("how to quantize")
    group.add_argument("--mode", choices=MODES, help="of activations (default predicted)")
    group.add_argument("--scheme", help=f"bits, such as w4a8 (default {DEFAULT_SCHEME})")
    group.add_argument("--plan", type=Path, help="a plan (TOML) instead of all these options")
    group.add_argument("--surrogate", choices=SURROGATES, help="predicts ranges (default auto)")
    group.add_argument("--rule", choices=RULES, help="fits the interval (default auto)")
    group.add_argument(
        "--coverage", type=float, metavar="SHARE", help="of values inside, for the rule coverage"
    )
    group.add_argument("--rounding", choices=ROUNDINGS, help="of weights (default feedback)")
    group.add_argument("--correction", choices=CORRECTIONS, help="of the weights' rounding")
    group.add_argument("--observer", choices=tuple(OBSERVERS), help="of static ranges")
    group.add_argument(
        "--per-channel", action="store_true", default=None, help="one range a channel where allowed"
    )
    group.add_argument(
        "--bits-from",
        type=widths,
        metavar="BITS",
        help="predict each activation's bits, from these, such as 4,6,8",
    )


def plan_from(args: argparse.Namespace) -> Plan:
    """Make the plan.

    Raises
    ------
    UsageError
        If a plan and options that contradict it are given.
    PlanError
        If a value is invalid.
    """
    given = {name: getattr(args, name) for name in FIELDS if getattr(args, name) is not None}
    if args.plan is None:
        return plan_of(args.scheme or DEFAULT_SCHEME, args.mode, **given)
    extra = [name for name in ("mode", "scheme") if getattr(args, name) is not None] + list(given)
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
    harmless = {"mode": ("static", "float"), "scheme": ("w8a8", "w8a8s")}
    for name in ("mode", "scheme", "plan", *FIELDS, *CALIBRATING):
        value = getattr(args, name, None)
        if value not in (None, [], *harmless.get(name, ())):
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the model is quantized already",
                where=model,
                why="its own scales, zero-points and codes of weights are kept",
                fix="leave the option out, or give --requantize to take the model as the float one "
                "that it stands for",
            )
    return plan_of(DEFAULT_SCHEME, args.mode or "static")


def skip_layers(plan: Plan, patterns: Sequence[str], names: Sequence[str]) -> Plan:
    """Leave the layers float that match one of `patterns`, such as ``*/depth_conv/*``.

    Raises
    ------
    UsageError
        If a pattern matches none of the layers `names`.
    """
    layers = dict(plan.layers)
    for pattern in patterns:
        found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            near = difflib.get_close_matches(pattern, names) or list(names[:3])
            raise UsageError(
                f"--skip {pattern} matches no layer",
                fix=f"give a layer or a pattern of layers, such as {', '.join(near)}",
            )
        for name in found:
            layers[name] = replace(plan.layer(name), mode="float", reason=f"--skip {pattern}")
    return Plan(plan.default, layers)


def check_target(plan: Plan, profile: TargetProfile) -> None:
    """Raise a TargetError unless the target has kernels for every width of a plan."""
    layers = {"the plan's default": plan.default}
    layers |= {f"the plan's layer {name}": layer for name, layer in plan.layers.items()}
    for where, layer in layers.items():
        for bits in (layer.activation_bits, *layer.bits_from):
            if layer.mode != "float":
                profile.require_bits(layer.weight_bits, bits, where=where)
