"""The table of counted instructions."""

from __future__ import annotations

import numpy as np
from arm.counting import Count
from arm.results import plain, table

COUNTS = {
    name: {"a72": Count(instructions, 2.0, {}, "", np.eye(2)[[0, 1]])}
    for name, instructions in (("peer", 4000.0), ("static", 3000.0), ("float", 12000.0))
}


def test_ratios_are_to_the_peer_and_to_the_cheapest_float() -> None:
    lines = table(COUNTS, ["a72"], "peer", ("float", "tvm-fp32"), np.array([0, 0])).splitlines()
    assert lines[0] == "|  | a72 | / peer | / own fp32 | top-1 of 2 |"
    assert lines[3] == "| static | 3 000 | 0.750 | 0.250 | 0.50 |"
    assert lines[4] == "| float | 12 000 | 3.000 | 1.000 |  |"


def test_plain_values_keep_the_spread() -> None:
    assert plain(COUNTS)["static"] == {"a72": {"mean": 3000.0, "spread": 2.0}}
