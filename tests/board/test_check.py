"""Whether code and a board fit each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tvm_probq.board.check import check_board
from tvm_probq.board.facts import BoardFacts
from tvm_probq.build.manifest import TargetNeeds, current_versions
from tvm_probq.errors import BoardError

NEEDS = TargetNeeds("arm-a76", {}, "aarch64", ("neon", "dotprod"))
VERSIONS = current_versions()
FACTS = BoardFacts.from_json(
    {
        "name": "pi", "machine": "aarch64", "flags": "", "hwcaps": [1 << 20 | 2, 0],
        "tiles": False, "cpus": 4, "versions": VERSIONS, "key": "", "tracker": "", "client": "",
        "busy_s": 0.0, "max_session_s": 600.0, "ends": {},
    }
)  # fmt: skip


def test_a_board_that_fits() -> None:
    check_board(NEEDS, VERSIONS, FACTS, "board pi:9090")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "x86_64"}, "board pi:9090: the artefact is for aarch64, but the board"),
        ({"features": frozenset({"neon"})}, "CPU lacks dotprod, which the artefact needs: it was"),
        ({"features": frozenset()}, "CPU lacks neon, dotprod"),
        ({"versions": {"apache-tvm": "0.26"}}, "but the board has TVM 0.26.*pip install"),
        ({"versions": {}}, "but the board has TVM None"),
    ],
)
def test_a_board_that_does_not(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BoardError, match=message):
        check_board(NEEDS, VERSIONS, replace(FACTS, **changes), "board pi:9090")


def test_both_ends_have_the_same_tvm() -> None:
    old = {"apache-tvm": "0.26"}
    with pytest.raises(BoardError, match="the board has TVM 0.26, but this machine has TVM"):
        check_board(NEEDS, old, replace(FACTS, versions=old), "board pi:9090")
