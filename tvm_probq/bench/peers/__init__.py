"""The peers: other ways to run the same float model, one file each."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

from tvm_probq.bench.peers import (
    openvino_fp32,
    openvino_int8,
    ort_dynamic,
    ort_fp32,
    ort_int8,
    tvm_fp32,
)
from tvm_probq.bench.peers.job import Contestant, Job
from tvm_probq.errors import EnvironmentProblem, UsageError

NONE = "none"
EXTRA = "pip install 'tvm_probq[bench]'"


class Peer(Protocol):
    """What a peer's module has."""

    NAME: str
    PACKAGES: tuple[str, ...]

    def contestant(self, job: Job) -> Contestant:
        """Make it ready to be timed."""


PEERS: dict[str, Peer] = {
    peer.NAME: peer
    for peer in (ort_fp32, ort_int8, ort_dynamic, openvino_fp32, openvino_int8, tvm_fp32)
}


def missing(name: str) -> tuple[str, ...]:
    """Give the packages a peer needs that are not installed."""
    return tuple(p for p in PEERS[name].PACKAGES if importlib.util.find_spec(p) is None)


def choose(asked: Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Choose the peers.

    Parameters
    ----------
    asked : sequence of str or None
        Names; all without it, but for those that are not installed.

    Returns
    -------
    names : tuple of str
    left_out : dict of str to str
        By name of a peer that is not installed, why and what to do.

    Raises
    ------
    UsageError
        For a name that is no peer.
    EnvironmentProblem
        If one that is asked for is not installed.
    """
    if asked is None:
        absent = {name: reason(missing(name)) for name in PEERS if missing(name)}
        return tuple(name for name in PEERS if name not in absent), absent
    names = tuple(dict.fromkeys(asked))
    for name in names:
        if name not in PEERS:
            fix = f"use {', '.join(PEERS)}, or {NONE}"
            raise UsageError(f"there is no peer {name!r}", where="--against", fix=fix)
        if missing(name):
            raise EnvironmentProblem(
                f"the peer {name} cannot be measured", where="--against", why=reason(missing(name)),
                fix="install it, or leave the peer out of --against",
            )  # fmt: skip
    return names, {}


def reason(packages: Sequence[str]) -> str:
    """Say which packages are missing, and how to install them."""
    verb = "are" if len(packages) > 1 else "is"
    names = " ".join(packages)
    return f"{' and '.join(packages)} {verb} not installed (pip install {names}, or {EXTRA})"
