"""What LLVM must know of a target: it only logs an unknown name, and makes code for any CPU."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from tvm_probq.errors import TargetError

GENERIC = "generic"  # the CPU that every architecture of LLVM has
SIGNS = ("+", "-")
SHOWN = 6


def check_cpu(config: Mapping[str, Any], where: str) -> None:
    """Check the triple, ``mcpu`` and ``mattr`` of a target of the kind ``llvm``.

    Parameters
    ----------
    config : mapping
        What ``tvm.target.Target`` takes.
    where : str
        What to call the source in messages.

    Raises
    ------
    TargetError
        If LLVM does not know one of them; the message names CPUs that it knows.
    """
    from tvm.target.codegen import llvm_get_system_triple, llvm_is_valid_cpu

    triple = str(config.get("mtriple") or llvm_get_system_triple())
    if not llvm_is_valid_cpu(GENERIC, triple):
        raise TargetError(
            f"LLVM knows no architecture {triple.split('-')[0]!r}", where=where,
            fix="correct mtriple, such as aarch64-linux-gnu",
        )  # fmt: skip
    cpu = str(config.get("mcpu") or GENERIC)
    if not llvm_is_valid_cpu(cpu, triple):
        raise TargetError(
            f"LLVM knows no CPU {cpu!r} for {triple}", where=where,
            fix=f"correct mcpu: {', '.join(_similar(cpu, triple))} and others are known",
        )  # fmt: skip
    attributes = config.get("mattr", ())
    for attribute in () if isinstance(attributes, str) else attributes:
        _check_attribute(str(attribute), triple, cpu, where)


def check_features(features: Iterable[str], target: Any, where: str) -> None:
    """Check that a target has features: a misspelt one would seem to be missing on each machine.

    Raises
    ------
    TargetError
        If it lacks one.
    """
    from tvm.target.codegen import target_has_features

    cpu = target.attrs.get("mcpu", "default CPU")
    for feature in features:
        if not target_has_features(feature, target):
            raise TargetError(
                f"the profile's feature {feature!r} is none of its target's", where=where,
                why=f"LLVM's {cpu} does not have it",
                fix="correct features or mcpu; features have LLVM's names",
            )  # fmt: skip


def _check_attribute(attribute: str, triple: str, cpu: str, where: str) -> None:
    from tvm.target import Target
    from tvm.target.codegen import target_has_features

    sign, name = attribute[:1], attribute[1:]
    # A target has each feature that is added to it, unless LLVM does not know the name.
    probe = {"kind": "llvm", "mtriple": triple, "mcpu": cpu, "mattr": [f"+{name}"]}
    if sign not in SIGNS or not target_has_features(name, Target(probe)):
        raise TargetError(
            f"LLVM knows no attribute {attribute!r} for {triple}", where=where,
            fix="correct mattr: +NAME or -NAME, with LLVM's name of a feature",
        )  # fmt: skip


def _similar(cpu: str, triple: str) -> list[str]:
    """Names of CPUs that are most like a misspelt one."""
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_cpu_archlist

    target = Target({"kind": "llvm", "mtriple": triple, "mcpu": GENERIC})
    names = [str(name) for name in llvm_get_cpu_archlist(target)]
    return difflib.get_close_matches(cpu, names, n=SHOWN, cutoff=0.0)
