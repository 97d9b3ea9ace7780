"""Latency on a board: modes in turn, on the board's clock, without transfers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from tvm_probq.bench.ours import Ours
from tvm_probq.bench.result import MODE_RATIOS, PRECEDENCE
from tvm_probq.bench.timing import quartiles
from tvm_probq.board.address import Address
from tvm_probq.board.check import check_board
from tvm_probq.board.facts import BoardFacts
from tvm_probq.board.session import BoardSession
from tvm_probq.build.manifest import TargetNeeds, current_versions
from tvm_probq.report.tables import Cell, table

MS_PER_S = 1000.0
# What one measurement lasts at least, by repeating the run: far above the clock's step.
LEAST_S, MOST_RUNS = 2e-3, 100
PEERS_WHY = "peers run on this machine only"
HEADERS = ("", "ms", "ours / it", "quartiles")


def measure_on_board(
    ours: Mapping[str, Ours],
    x: Any,
    address: Address,
    turns: int,
    threads: int,
    timeout_s: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Time compiled models of one input on a board.

    Parameters
    ----------
    ours : mapping of str to Ours
        By mode.
    x : ndarray
        The input.
    address : Address
        Of the board or of a tracker.
    turns, threads : int
        Measurements of each mode, and threads that they run on.
    timeout_s : float
        For each call of the board.
    say : callable
        Takes lines about what is being done.

    Returns
    -------
    dict
        As of `bench.session.measure`, without peers, and with ``board``.

    Raises
    ------
    BoardError
        If the board is not there, unfit, or does not answer in time.
    """

    def check(facts: BoardFacts) -> None:
        for item in ours.values():
            needs = item.profile
            target = TargetNeeds(needs.name, needs.tvm_target, needs.architecture, needs.features)
            check_board(target, current_versions(), facts, str(address))

    say(f"connecting to {address}")
    with BoardSession(address, check, timeout_s) as session:
        session.use_threads(threads)
        for mode, item in ours.items():
            say(f"uploading {mode}")
            session.load(mode, item.library())
            session.prepare(mode, {"x": x})
        say(f"timing {len(ours)} contestants, {turns} turns")
        times = _interleaved(session, list(ours), turns)
        board = {"address": str(address), **session.facts.to_json()}
    return {**_result(ours, times), "board": board}


def show_board(result: Mapping[str, Any]) -> str:
    """Lay medians out, and say what the board is."""
    reference, board = result["ours_ms"], result["board"]
    rows: list[list[Cell]] = [
        [f"ours, {mode}", row["ms"], reference / row["ms"],
         "{:.4g} to {:.4g}".format(*row["quartiles_ms"])]
        for mode, row in result["modes"].items()
    ]  # fmt: skip
    lines = [table(HEADERS, rows), "", "ms are medians on the board's clock"]
    lines += [f"{pair}: {ratio:.3f}" for pair, ratio in result["mode_ratios"].items()]
    lines += [f"{name} left out: {why}" for name, why in result["left_out"].items()]
    return "\n".join([*lines, "", f"{board['address']}: {board['name']}, {board['architecture']}"])


def _interleaved(session: BoardSession, modes: list[str], turns: int) -> dict[str, list[float]]:
    """Seconds of each mode, one entry a turn; each turn starts with another mode."""
    numbers = {}
    for mode in modes:
        (once,) = session.time_s(mode)
        numbers[mode] = min(MOST_RUNS, max(1, math.ceil(LEAST_S / max(once, 1e-9))))
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    for turn in range(turns):
        start = turn % len(modes)
        for mode in modes[start:] + modes[:start]:
            times[mode] += session.time_s(mode, number=numbers[mode])
    return times


def _result(ours: Mapping[str, Ours], times: Mapping[str, list[float]]) -> dict[str, Any]:
    medians = {mode: MS_PER_S * statistics.median(values) for mode, values in times.items()}
    mode = next(m for m in PRECEDENCE if m in ours)
    return {
        "ours_ms": medians[mode],
        "mode": mode,
        "clock": "board",
        "peers": {},
        "modes": {
            name: {
                "ms": medians[name],
                "quartiles_ms": [MS_PER_S * value for value in quartiles(times[name])],
                "turns": len(times[name]),
                "peak_activation_bytes": item.peak_activation_bytes,
                "parameter_bytes": item.parameter_bytes,
            }
            for name, item in ours.items()
        },
        "mode_ratios": {
            f"{a}/{b}": medians[a] / medians[b] for a, b in MODE_RATIOS if {a, b} <= set(medians)
        },
    }
