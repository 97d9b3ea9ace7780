"""Latency side by side."""

from __future__ import annotations

import subprocess
import sys
import time

from tvm_probq.runtime.latency import WARM_UP_ROUNDS, median_latencies_us


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_calls_take_turns_and_warm_up_does_not_count() -> None:
    order: list[str] = []
    result = median_latencies_us(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3
    )
    assert order == ["a", "b"] * (WARM_UP_ROUNDS + 3)
    assert set(result) == {"a", "b"}


def test_the_unit_is_microseconds() -> None:
    result = median_latencies_us({"slow": lambda: spin(0.002)}, 3)
    assert 2000 <= result["slow"] < 20_000


def test_waiting_costs_nothing() -> None:
    result = median_latencies_us({"wait": lambda: time.sleep(0.01)}, 3)
    assert result["wait"] < 5000


def test_one_thread_is_used() -> None:
    # In a child: the number of threads holds for the whole process.
    code = (
        "from tvm_probq.runtime.latency import use_one_thread; use_one_thread(); "
        "import tvm; print(tvm.get_global_func('runtime.NumThreads')())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
