"""Interleaved timing: every contestant in every turn, on three clocks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tvm_probq.errors import EnvironmentProblem

MS_PER_NS = 1e-6
WARM_UP_TURNS = 5
# A network of half a millisecond takes an eighth longer in its second run after other networks than
# in its fifth, from which on it stays the same: caches and the prediction of branches.
WARM_UP_RUNS = 4
WARM_UP_S = 0.02  # no further run of a slow contestant
RARE = 10  # a slow contestant takes part in every tenth turn
QUIET_SHARE = 0.05  # of one CPU, from which on threads that wait count as quiet
QUIET_S = 0.002
QUIET_LIMIT_S = 2.0

CLOCKS = ("process_cpu", "thread_cpu", "wall")
Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Times of one contestant in nanoseconds, one entry a turn.

    Attributes
    ----------
    process_cpu, thread_cpu, wall : tuple of int
        CPU time of the process with all threads, CPU time of the calling thread alone, and time on
        the clock.
    """

    process_cpu: tuple[int, ...]
    thread_cpu: tuple[int, ...]
    wall: tuple[int, ...]

    def ms(self, clock: str) -> float:
        """Median of one of `CLOCKS` in milliseconds."""
        return statistics.median(self._values(clock)) * MS_PER_NS

    def quartiles_ms(self, clock: str) -> tuple[float, float]:
        """First and third quartile of one of `CLOCKS` in milliseconds."""
        low, high = quartiles(self._values(clock))
        return low * MS_PER_NS, high * MS_PER_NS

    def _values(self, clock: str) -> tuple[int, ...]:
        values: tuple[int, ...] = getattr(self, clock)
        return values


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Give the first and the third quartile; of a single value, that."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def fair_clock(threads: int) -> str:
    """Name the clock that contestants are compared on.

    With one thread the CPU time of the process: it holds whatever helper threads of a runtime burn,
    and nothing of what other programs do. With more the clock on the wall: work is then spread over
    CPUs on purpose, and threads that spin while they wait would count as work.
    """
    return "process_cpu" if threads == 1 else "wall"


def interleaved(
    calls: Mapping[str, Call],
    turns: int,
    rare: Collection[str] = (),
    between: Call | None = None,
    clock: str = "wall",
) -> dict[str, Timing]:
    """Time calls in turn, so that a change of the clock or of the load meets all alike.

    Each turn starts with another contestant, and each contestant runs several times: as in use
    frame after frame, until its own code and weights are in the caches again, and once for the
    clocks.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time, by name.
    turns : int
        Measurements of each.
    rare : collection of str
        Slow contestants that take part in every tenth turn only.
    between : callable, optional
        Called before each contestant; see `settle`.
    clock : str, optional
        The one of `CLOCKS` that matters: it is read next to the call, so that it does not hold
        the time it takes to read the others, a microsecond.
    """
    names = list(calls)
    order = sorted(CLOCKS, key=lambda name: name == clock)
    times: dict[str, list[dict[str, int]]] = {name: [] for name in names}
    for turn in range(-WARM_UP_TURNS, turns):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if name in rare and turn % RARE:
                continue
            if between is not None:
                between()
            _warm_up(calls[name])
            taken = _timed(calls[name], order)
            if turn >= 0:
                times[name].append(taken)
    return {
        name: Timing(**{clock: tuple(turn[clock] for turn in taken) for clock in CLOCKS})
        for name, taken in times.items()
    }


def settle() -> None:
    """Wait until no thread of this process computes: workers spin for a while after their work.

    Raises
    ------
    EnvironmentProblem
        If they never rest.
    """
    give_up = time.monotonic() + QUIET_LIMIT_S
    while time.monotonic() < give_up:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        time.sleep(QUIET_S)
        used, passed = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        if used < QUIET_SHARE * passed:
            return
    raise EnvironmentProblem(
        "a thread of this process computes all the time, which would disturb the measurement",
        where="bench",
        why=f"no rest in {QUIET_LIMIT_S:g} s between two contestants",
        fix="measure the peers one by one, with --against NAME",
    )


def _warm_up(call: Call) -> None:
    end = time.monotonic() + WARM_UP_S
    for _ in range(WARM_UP_RUNS):
        call()
        if time.monotonic() >= end:
            return


def _timed(call: Call, order: Sequence[str]) -> dict[str, int]:
    """Time one call on all clocks, the last of `order` nearest to it."""
    outer, middle, inner = (_read(name) for name in order)
    times = [outer(), middle(), inner()]
    call()
    times[2] = inner() - times[2]
    times[1] = middle() - times[1]
    times[0] = outer() - times[0]
    return dict(zip(order, times, strict=True))


def _read(clock: str) -> Callable[[], int]:
    readers = {
        "process_cpu": time.process_time_ns,
        "thread_cpu": time.thread_time_ns,
        "wall": time.perf_counter_ns,
    }
    return readers[clock]
