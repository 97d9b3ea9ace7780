"""Latency of loaded models, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import tvm

WARM_UP_ROUNDS = 5
NS_PER_US = 1000.0


def use_one_thread() -> None:
    """Let TVM run everything in the calling thread, so that its CPU time is all there is."""
    only_big_cores, threads = 1, 1
    tvm.get_global_func("runtime.config_threadpool")(only_big_cores, threads)


def median_latencies_us(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time calls in turn, so that a change of the clock or of the load meets all alike.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time, by name.
    rounds : int
        Measurements of each.

    Returns
    -------
    dict of str to float
        Median CPU time of the calling thread in microseconds; see `use_one_thread`.
    """
    times: dict[str, list[int]] = {name: [] for name in calls}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            start = time.thread_time_ns()
            call()
            elapsed = time.thread_time_ns() - start
            if turn >= WARM_UP_ROUNDS:
                times[name].append(elapsed)
    return {name: statistics.median(values) / NS_PER_US for name, values in times.items()}
