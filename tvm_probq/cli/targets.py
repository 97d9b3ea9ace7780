"""``tvm-probq targets``: list the hardware profiles."""

from __future__ import annotations

import argparse
from typing import Any

from tvm_probq.errors import TargetError
from tvm_probq.report.tables import table
from tvm_probq.target import profile as profiles

HELP = "list the hardware profiles, and which of them run here"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare the options: none of its own."""


def run(_args: argparse.Namespace) -> dict[str, Any]:
    """Load every profile; one that cannot be loaded is listed with its error."""
    return {"targets": [_entry(name) for name in profiles.profile_names()], "host": _host()}


def show(result: dict[str, Any]) -> str:
    """Give a table; the default for this machine has a star."""
    rows = [
        [
            f"{entry['name']} *" if entry["name"] == result["host"] else entry["name"],
            entry["runs_here"],
            entry["instruction"],
            entry["error"] or entry["description"],
        ]
        for entry in result["targets"]
    ]
    text = table(["target", "runs here", "instruction", "description"], rows)
    return f"{text}\n\n* the default on this machine" if result["host"] else text


def _entry(name: str) -> dict[str, Any]:
    try:
        profile = profiles.load_profile(name)
    except TargetError as error:
        # A broken profile of some other package must not hide the good ones.
        return {"name": name, "runs_here": False, "instruction": "", "error": str(error)}
    return {
        "name": name,
        "description": profile.description,
        "tvm_target": profile.tvm_target,
        "features": list(profile.features),
        "instruction": profile.instruction,
        "weight_bits": list(profile.weight_bits),
        "weight_groups": list(profile.weight_groups),
        "activation_bits": list(profile.activation_bits),
        "storages": list(profile.storages),
        "runs_here": profile.runs_here,
        "error": "",
    }


def _host() -> str:
    try:
        return profiles.host_profile().name
    except TargetError:
        return ""
