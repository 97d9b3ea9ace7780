"""Figures and ratios from made-up times."""

from __future__ import annotations

import pytest

from tvm_probq.bench.result import latency, show_latency, show_memory
from tvm_probq.bench.timing import Timing


def timing(process: float, wall: float) -> Timing:
    """Three turns whose medians are `process` and `wall` in milliseconds."""
    around = (0.5, 1.0, 4.0)
    cpu = tuple(round(process * f * 1e6) for f in around)
    clock = tuple(round(wall * f * 1e6) for f in around)
    return Timing(cpu, cpu, clock)


OURS = {"static": timing(2.0, 1.0), "dynamic": timing(5.0, 3.0), "predicted": timing(2.5, 1.2)}
PEERS = {"ort-int8": timing(5.0, 1.0), "openvino-int8": timing(2.0, 2.4)}


def test_ratios_are_ours_over_the_peer_on_one_clock() -> None:
    cpu, wall = (latency(OURS, PEERS, clock) for clock in ("process_cpu", "wall"))
    assert cpu["ours_ms"] == pytest.approx(2.5)
    assert cpu["mode"] == "predicted"
    assert cpu["peers"]["ort-int8"]["ratio"] == pytest.approx(0.5)
    assert cpu["peers"]["openvino-int8"]["ratio"] == pytest.approx(1.25)
    assert wall["ours_ms"] == pytest.approx(1.2)
    assert wall["peers"]["ort-int8"]["ratio"] == pytest.approx(1.2)
    assert wall["peers"]["openvino-int8"]["ratio"] == pytest.approx(0.5)


def test_all_clocks_are_given() -> None:
    row = latency(OURS, PEERS, "wall")["peers"]["ort-int8"]
    assert row["ms"] == row["wall_ms"] == pytest.approx(1.0)
    assert row["process_cpu_ms"] == row["thread_cpu_ms"] == pytest.approx(5.0)
    assert row["quartiles_ms"] == pytest.approx([0.5, 4.0])
    assert row["turns"] == 3


def test_modes_are_compared_with_each_other() -> None:
    result = latency(OURS, {}, "process_cpu")
    assert result["mode_ratios"] == pytest.approx(
        {"predicted/static": 1.25, "dynamic/predicted": 2.0}
    )
    assert latency({"static": timing(1, 1)}, {}, "wall")["mode_ratios"] == {}
    assert latency({"static": timing(1, 1)}, {}, "wall")["mode"] == "static"


def test_the_table_says_what_it_compares_and_what_is_left_out() -> None:
    result = latency(OURS, PEERS, "process_cpu")
    result["peers"]["ort-int8"]["details"] = {"schedule": "its own"}
    result["left_out"] = {"tvm-fp32": "it is too slow"}
    text = show_latency(result)
    assert "CPU time of the process; below 1, ours (predicted) is faster" in text
    assert "predicted/static: 1.250" in text
    assert "ort-int8: schedule its own" in text
    assert "tvm-fp32 left out: it is too slow" in text
    (line,) = (line for line in text.splitlines() if line.startswith("openvino-int8"))
    assert line.split()[1:3] == ["2", "1.25"]


def test_memory_is_shown_in_bytes() -> None:
    row = {"before_bytes": 1000, "peak_bytes": 4000, "after_bytes": 3500, "growth_bytes": 3000}
    text = show_memory({"ours": row})
    assert text.splitlines()[-1].split("  ")[-1].strip() == "1 000"
    assert "3 500" in text
