"""Interleaved timing on one thread, and what there is to say about the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MS_PER_NS = 1e-6
WARM_UP_TURNS = 5
RARE = 10


@dataclass(frozen=True)
class Timing:
    """Times of one contestant, one entry a turn.

    Attributes
    ----------
    cpu_ns, wall_ns : tuple of int
        CPU time of the calling thread, and time on the clock, in nanoseconds.
    """

    cpu_ns: tuple[int, ...]
    wall_ns: tuple[int, ...]

    @property
    def cpu_ms(self) -> float:
        """Median CPU time of the calling thread."""
        return statistics.median(self.cpu_ns) * MS_PER_NS

    @property
    def wall_ms(self) -> float:
        """Median time on the clock."""
        return statistics.median(self.wall_ns) * MS_PER_NS

    @property
    def cpu_quartiles_ms(self) -> tuple[float, float]:
        """First and third quartile of the CPU time."""
        low, _, high = statistics.quantiles(self.cpu_ns, n=4)
        return low * MS_PER_NS, high * MS_PER_NS


def use_one_thread() -> int:
    """Let TVM use one thread and pin nothing; call it before TVM is imported.

    Returns
    -------
    int
        CPUs this process may use. TVM's pool pins the calling thread where it is not told
        otherwise, and every other runtime in the process would inherit that.
    """
    cpus = len(os.sched_getaffinity(0))
    os.environ["TVM_NUM_THREADS"] = "1"
    os.environ["TVM_BIND_THREADS"] = "0"
    # NumPy's threads during calibration must not disturb anything either.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return cpus


def interleaved(
    calls: Mapping[str, Callable[[], object]], turns: int, rare: Collection[str] = ()
) -> dict[str, Timing]:
    """Time calls in turn, so that a change of the clock or of the load meets all alike.

    Each turn starts with another contestant, and each contestant runs twice: once to have its
    own code and weights in the caches again, and once for the clock.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time, by name.
    turns : int
        Measurements of each.
    rare : collection of str
        Slow contestants that take part in every tenth turn only.
    """
    names = list(calls)
    cpu: dict[str, list[int]] = {name: [] for name in names}
    wall: dict[str, list[int]] = {name: [] for name in names}
    for turn in range(-WARM_UP_TURNS, turns):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if name in rare and turn % RARE:
                continue
            call = calls[name]
            call()
            cpu_start, wall_start = time.thread_time_ns(), time.perf_counter_ns()
            call()
            wall_end, cpu_end = time.perf_counter_ns(), time.thread_time_ns()
            if turn >= 0:
                cpu[name].append(cpu_end - cpu_start)
                wall[name].append(wall_end - wall_start)
    return {name: Timing(tuple(cpu[name]), tuple(wall[name])) for name in names}


def machine() -> dict[str, object]:
    """Name the processor, the time and the versions that figures depend on."""
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **versions("tvm_probq", "apache-tvm", "onnxruntime"),
    }


def cpu_name() -> str:
    """Give the processor's name with family and model, which virtual machines do not hide."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name", platform.processor() or platform.machine())
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def versions(*packages: str) -> dict[str, str]:
    """Give the versions of those packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay out a Markdown table, columns aligned; all but the first to the right."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    texts = [_cells(lines[0], widths), "| " + " | ".join(rule) + " |"]
    return "\n".join(texts + [_cells(line, widths) for line in lines[1:]])


def _cells(line: list[str], widths: list[int]) -> str:
    first, *rest = zip(line, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
    return "| " + " | ".join(cells) + " |"
