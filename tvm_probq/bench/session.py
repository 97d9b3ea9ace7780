"""One benchmark: contestants made, timed in turn, and everything there is to say about it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_probq.bench import ours as own
from tvm_probq.bench.cache import Cache
from tvm_probq.bench.layers import layer_times
from tvm_probq.bench.memory import OURS, PEER, memory_of, save_library
from tvm_probq.bench.peers import PEERS, ort_int8
from tvm_probq.bench.peers.job import Contestant, Job
from tvm_probq.bench.result import latency
from tvm_probq.bench.share import surrogate_share
from tvm_probq.bench.timing import Call, fair_clock, interleaved, settle
from tvm_probq.frontend.onnx import Model

RARE = ("float",)  # TVM's default code without schedules is a hundred times slower


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes
    ----------
    threads, turns : int
        See `interleaved`.
    peers : sequence of str
        Names of `PEERS`.
    layers, memory, share : bool
        Whether to measure these too.
    trials : int
        Tuning of the peer ``tvm-fp32``.
    """

    threads: int = 1
    turns: int = 200
    peers: Sequence[str] = ()
    layers: bool = False
    memory: bool = False
    share: bool = False
    trials: int = 0


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes
    ----------
    ours : dict of str to Ours
        By mode.
    model : Model or None
        The float model with the batch that is timed; None where only an artefact is there.
    x : ndarray
        The input.
    samples : sequence of ndarray
        Calibration inputs ``[1, ...]`` of the peers.
    samples_key : str
        What decides their values.
    """

    ours: Mapping[str, own.Ours]
    model: Model | None
    x: Any
    samples: Sequence[Any] = field(default=())
    samples_key: str = ""


def measure(
    subject: Subject, request: Request, cache: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure one subject.

    Parameters
    ----------
    subject : Subject
        Its model may be None if there are no peers and no layers to measure.
    request : Request
        What to measure.
    cache : Path
        Folder of prepared peers.
    say : callable
        Takes lines about what is being done.

    Returns
    -------
    dict
        As `latency`, and ``surrogate_share``, ``layers`` and ``memory`` where asked.
    """
    job = _job(subject, request, cache, say)
    contestants = {name: _contestant(name, job, say) for name in request.peers}
    calls: dict[str, Call] = {mode: item.call(subject.x) for mode, item in subject.ours.items()}
    calls |= {name: c.call for name, c in contestants.items()}
    say(f"timing {len(calls)} contestants, {request.turns} turns")
    # Workers of a runtime spin for a while, on the CPUs that the next contestant needs.
    between = settle if request.threads > 1 else None
    clock = fair_clock(request.threads)
    times = interleaved(calls, request.turns, RARE, between, clock)
    result = latency(
        {mode: times[mode] for mode in subject.ours},
        {name: times[name] for name in contestants},
        clock,
    )
    for name, contestant in contestants.items():
        result["peers"][name]["details"] = contestant.details
    for mode, item in subject.ours.items():
        result["modes"][mode]["peak_activation_bytes"] = item.peak_activation_bytes
        result["modes"][mode]["parameter_bytes"] = item.parameter_bytes
    chosen = subject.ours[result["mode"]]
    if request.share:
        say("timing the prediction's kernels")
        result["surrogate_share"] = surrogate_share(chosen, subject.x, times, clock)
    if request.layers and subject.model is not None:
        say("timing each layer")
        result["layers"] = layer_times(chosen, subject.model, subject.x)
    if request.memory:
        say("measuring memory")
        result["memory"] = _memory(chosen, job, request, subject.x)
    return result


def _job(subject: Subject, request: Request, cache: Path, say: Callable[[str], None]) -> Job | None:
    if subject.model is None:
        return None
    return Job(
        subject.model, subject.x, subject.samples, subject.samples_key, request.threads,
        Cache(cache), request.trials, say,
    )  # fmt: skip


def _contestant(name: str, job: Job | None, say: Callable[[str], None]) -> Contestant:
    if job is None:
        raise ValueError(f"the peer {name} needs the float model")
    say(f"preparing {name}")
    return PEERS[name].contestant(job)


def _memory(ours: own.Ours, job: Job | None, request: Request, x: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
        path = save_library(ours.library(), Path(folder))
        found = {f"ours, {ours.mode}": memory_of(OURS, path, x, request.threads)}
    if job is not None and ort_int8.NAME in request.peers:
        found[ort_int8.NAME] = memory_of(PEER, ort_int8.model_path(job), x, request.threads)
    return found
