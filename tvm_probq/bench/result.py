"""Figures from times: medians, ratios and the form of ``bench --json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm_probq.bench.timing import CLOCKS, Timing
from tvm_probq.report.tables import Cell, table

# Which mode stands for ours in ratios, the first one that is there.
PRECEDENCE = ("predicted", "static", "dynamic", "float")
MODE_RATIOS = (("predicted", "static"), ("dynamic", "predicted"))
HEADERS = ("", "ms", "ours / it", "process CPU", "thread CPU", "wall", "quartiles")
CLOCK_TEXTS = {"process_cpu": "CPU time of the process", "wall": "time on the clock"}


def latency(ours: Mapping[str, Timing], peers: Mapping[str, Timing], clock: str) -> dict[str, Any]:
    """Give medians and ratios.

    Parameters
    ----------
    ours, peers : mapping of str to Timing
        By mode, and by name.
    clock : str
        What ``ms`` and the ratios are taken on; see `fair_clock`.

    Returns
    -------
    dict
        ``ours_ms``, ``mode``, ``peers`` with ``ratio`` = ours / peer, ``modes``, ``mode_ratios``.
    """
    mode = next(m for m in PRECEDENCE if m in ours)
    reference = ours[mode].ms(clock)
    pairs = [(a, b) for a, b in MODE_RATIOS if a in ours and b in ours]
    return {
        "ours_ms": reference,
        "mode": mode,
        "clock": clock,
        "peers": {
            name: {"ms": t.ms(clock), "ratio": reference / t.ms(clock), **clocks(t, clock)}
            for name, t in peers.items()
        },
        "modes": {name: {"ms": t.ms(clock), **clocks(t, clock)} for name, t in ours.items()},
        "mode_ratios": {f"{a}/{b}": ours[a].ms(clock) / ours[b].ms(clock) for a, b in pairs},
    }


def clocks(times: Timing, clock: str) -> dict[str, Any]:
    """Give the medians of all clocks, and the quartiles of one."""
    medians = {f"{name}_ms": times.ms(name) for name in CLOCKS}
    return {**medians, "quartiles_ms": list(times.quartiles_ms(clock)), "turns": len(times.wall)}


def show_latency(result: Mapping[str, Any]) -> str:
    """Lay medians and ratios out, ours first."""
    reference = result["ours_ms"]
    rows = [_row(f"ours, {mode}", row, reference) for mode, row in result["modes"].items()]
    rows += [_row(name, row, reference) for name, row in result["peers"].items()]
    clock = CLOCK_TEXTS[result["clock"]]
    note = (
        f"ms and the ratio are medians of the {clock}; below 1, ours ({result['mode']}) is faster"
    )
    lines = [table(HEADERS, rows), "", note]
    for pair, ratio in result["mode_ratios"].items():
        lines.append(f"{pair}: {ratio:.3f}")
    for name, row in result["peers"].items():
        lines += [f"{name}: {key} {value}" for key, value in row.get("details", {}).items()]
    lines += [f"{name} left out: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


def show_memory(memory: Mapping[str, Mapping[str, int]]) -> str:
    """Lay peak memory out."""
    keys = ("growth_bytes", "peak_bytes", "after_bytes", "before_bytes")
    rows: list[list[Cell]] = [[name, *(row[key] for key in keys)] for name, row in memory.items()]
    headers = ("resident bytes", "to load and run", "peak", "after it", "before, runtime imported")
    return table(headers, rows)


def _row(name: str, row: Mapping[str, Any], reference: float) -> list[Cell]:
    low, high = row["quartiles_ms"]
    figures = [row["ms"], reference / row["ms"], *(row[f"{clock}_ms"] for clock in CLOCKS)]
    return [name, *figures, f"{low:.4g} to {high:.4g}"]
