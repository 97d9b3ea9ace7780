"""Interleaved timing: the order, the clocks, the waiting."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from tvm_probq.bench import timing
from tvm_probq.bench.timing import RARE, WARM_UP_TURNS, Timing, fair_clock, interleaved, settle
from tvm_probq.errors import EnvironmentProblem


@pytest.fixture(autouse=True)
def one_run_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with slow contestants."""
    monkeypatch.setattr(timing, "WARM_UP_S", 0.0)


def test_a_fast_contestant_runs_until_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_UP_S", 1000.0)
    order: list[str] = []
    interleaved({n: lambda n=n: order.append(n) for n in "ab"}, 1)
    each = timing.WARM_UP_RUNS + 1
    assert "".join(order[-2 * each :]) == "a" * each + "b" * each


def test_each_turn_starts_with_another_and_runs_each_twice() -> None:
    order: list[str] = []
    calls: dict[str, Callable[[], object]] = {n: lambda n=n: order.append(n) for n in "abc"}
    times = interleaved(calls, 3)
    measured = "".join(order[-3 * 6 :])
    assert measured == "aabbcc" + "bbccaa" + "ccaabb"
    assert len(order) == 6 * (WARM_UP_TURNS + 3)
    assert {name: len(t.wall) for name, t in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_rare_contestant_takes_part_in_every_tenth_turn() -> None:
    order: list[str] = []
    calls = {"fast": lambda: order.append("fast"), "slow": lambda: order.append("slow")}
    times = interleaved(calls, 2 * RARE + 1, rare=("slow",))
    assert len(times["slow"].wall) == 3
    assert len(times["fast"].wall) == 2 * RARE + 1
    assert order.count("slow") == 2 * 3


def test_something_can_be_done_before_each_contestant() -> None:
    order: list[str] = []
    interleaved({"a": lambda: order.append("a")}, 1, between=lambda: order.append("-"))
    assert order == ["-", "a", "a"] * (WARM_UP_TURNS + 1)


def test_only_the_second_run_is_on_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"process": 0, "thread": 0, "wall": 0}
    for name, clock in (
        ("process_time_ns", "process"),
        ("thread_time_ns", "thread"),
        ("perf_counter_ns", "wall"),
    ):
        monkeypatch.setattr(timing.time, name, lambda clock=clock: now[clock])
    costs = itertools.cycle([1000, 1])  # the first run of a pair is the dear one

    def call() -> None:
        cost = next(costs)
        now["process"] += 5 * cost
        now["thread"] += 3 * cost
        now["wall"] += 4 * cost

    times = interleaved({"only": call}, 2)["only"]
    assert times == Timing(process_cpu=(5, 5), thread_cpu=(3, 3), wall=(4, 4))


@pytest.mark.parametrize("clock", timing.CLOCKS)
def test_the_clock_that_matters_is_read_next_to_the_call(
    monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    order: list[str] = []
    names = {"process_cpu": "process_time_ns", "thread_cpu": "thread_time_ns"}
    for name in timing.CLOCKS:
        reader = names.get(name, "perf_counter_ns")
        monkeypatch.setattr(timing.time, reader, lambda name=name: order.append(name) or 0)
    interleaved({"only": lambda: order.append("call")}, 1, clock=clock)
    at = len(order) - 1 - order[::-1].index("call")
    assert order[at - 1] == order[at + 1] == clock
    assert sorted(order[at - 3 : at]) == sorted(order[at + 1 : at + 4]) == sorted(timing.CLOCKS)


def test_medians_and_quartiles_are_in_milliseconds() -> None:
    times = Timing((1_000_000, 9_000_000, 2_000_000), (1, 1, 1), (4_000_000,) * 3)
    assert times.ms("process_cpu") == pytest.approx(2.0)
    assert times.ms("wall") == pytest.approx(4.0)
    low, high = times.quartiles_ms("process_cpu")
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(9.0)
    assert Timing((3_000_000,), (1,), (1,)).quartiles_ms("process_cpu") == pytest.approx((3.0, 3.0))


def test_one_thread_is_compared_on_cpu_time_and_several_on_the_wall() -> None:
    assert fair_clock(1) == "process_cpu"
    assert fair_clock(2) == "wall"


def test_settling_waits_for_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    # Busy, busy, at rest: pairs of looks at the CPU time.
    looks: Iterator[int] = iter([0, 10_000_000, 20_000_000, 30_000_000, 30_000_000, 30_000_000])
    monkeypatch.setattr(timing.time, "process_time_ns", lambda: next(looks))
    settle()
    assert list(looks) == []


def test_a_thread_that_never_rests_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = itertools.count(step=1_000_000_000)
    monkeypatch.setattr(timing, "QUIET_LIMIT_S", 0.02)
    monkeypatch.setattr(time, "process_time_ns", lambda: next(busy))
    with pytest.raises(EnvironmentProblem, match="computes all the time"):
        settle()
