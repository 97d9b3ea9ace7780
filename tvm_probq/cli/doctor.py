"""``tvm-probq doctor``: find what is wrong with this machine or its packages."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from tvm_probq import environment

HELP = "check this machine and its packages, and say what to do"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare the options: none of its own."""


def run(_args: argparse.Namespace) -> dict[str, Any]:
    """Check everything; not ok if there is a fatal problem."""
    problems = environment.full_check()
    return {
        "ok": all(problem.severity != "fatal" for problem in problems),
        "problems": [asdict(problem) for problem in problems],
    }


def show(result: dict[str, Any]) -> str:
    """Give one paragraph a problem, the gravest first."""
    lines = []
    for problem in result["problems"]:
        lines.append(f"{problem['severity']}: {problem['name']}: {problem['what']}")
        lines.append(f"    what to do: {problem['fix']}")
    verdict = "this machine is ready" if result["ok"] else "this machine is NOT ready"
    return "\n".join([*lines, verdict])
