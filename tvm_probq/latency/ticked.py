"""Time every kernel of a network where it runs: inside the network, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax

from tvm_probq.build.compile import build, quantized
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import KernelError
from tvm_probq.frontend.onnx import Model
from tvm_probq.latency.kernels import KernelCall, kernel_calls
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.passes.pipeline import fusing_passes, kernel_passes
from tvm_probq.plan.plan import Plan

Array = npt.NDArray[Any]
Run = Callable[[], Sequence[Array]]

WARM_UP_RUNS = 10
LEAST_RUNS, MOST_RUNS = 30, 300
SPAN_S = 8.0  # of all runs, once there are `LEAST_RUNS`
NS_PER_US = 1000.0


@dataclass(frozen=True)
class Ticked:
    """A network whose ``main`` also returns when each kernel began and ended.

    Attributes
    ----------
    executable : tvm.relax.VMExecutable
        The code; not yet linked.
    calls : list of list of KernelCall
        By tensor of ticks, the kernels between them.
    parameter_bytes : int
        Of all constants.
    """

    executable: Any
    calls: list[list[KernelCall]]
    parameter_bytes: int = 0

    @property
    def kernels(self) -> list[KernelCall]:
        """All calls in order."""
        return [call for run in self.calls for call in run]


@dataclass(frozen=True)
class CallTime:
    """Time of a kernel call in microseconds: the median over runs, and the quartiles."""

    us: float
    low_us: float
    high_us: float


def lowered_calls(
    model: Model,
    plan: Plan,
    record: CalibrationRecord | None,
    target: tvm.target.Target,
    tiles: Tiles | None,
) -> tvm.ir.IRModule:
    """The graph of kernel calls of a model, before TVM's own lowering."""
    integer = quantized(model, plan, record)
    return tvm.transform.Sequential(kernel_passes(target, tiles))(integer)


def fused_calls(lowered: tvm.ir.IRModule, target: tvm.target.Target) -> list[list[KernelCall]]:
    """The kernel calls of a graph of `lowered_calls`, with those that TVM makes of the rest."""
    return kernel_calls(tvm.transform.Sequential(fusing_passes(target))(lowered), target)


def ticked(lowered: tvm.ir.IRModule, target: tvm.target.Target) -> Ticked:
    """Build a graph of kernel calls so that it times itself."""
    from tvm_probq.build.memory import parameter_bytes

    executable = build(lowered, target, ticks=True)
    return Ticked(executable, fused_calls(lowered, target), parameter_bytes(lowered))


def call_here(executable: Any, inputs: Sequence[Array]) -> Run:
    """What runs an executable once on this machine."""
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    tensors = [tvm.runtime.tensor(x) for x in inputs]
    return lambda: [output.numpy() for output in main(*tensors)]


def time_kernels(run: Run, calls: Sequence[Sequence[KernelCall]]) -> list[CallTime]:
    """Run a network again and again, and take each kernel's median.

    The counter's rate comes from the same runs, by this machine's clock.

    Parameters
    ----------
    run : callable
        Runs the network and gives its outputs, the ticks last.
    calls : sequence of sequence of KernelCall
        Of `Ticked`.

    Returns
    -------
    list of CallTime
        In the order of the calls.

    Raises
    ------
    KernelError
        If the ticks are not those of the calls, or the counter stands still.
    """
    for _ in range(WARM_UP_RUNS):
        run()
    clock: list[int] = []
    starts: list[int] = []
    rows: list[Array] = []
    begun = time.monotonic()
    while len(rows) < LEAST_RUNS or (len(rows) < MOST_RUNS and time.monotonic() - begun < SPAN_S):
        clock.append(time.perf_counter_ns())
        ticks = list(run())[-len(calls) :]
        _check(ticks, calls)
        starts.append(int(ticks[0][0]))
        rows.append(np.concatenate([np.diff(t) for t in ticks]))
    rate = (starts[-1] - starts[0]) / (clock[-1] - clock[0])  # ticks a nanosecond
    if rate <= 0:
        raise KernelError("the machine's counter stands still", fix="measure on another machine")
    low, middle, high = np.quantile(np.array(rows), (0.25, 0.5, 0.75), axis=0) / rate / NS_PER_US
    return [CallTime(*map(float, t)) for t in zip(middle, low, high, strict=True)]


def _check(ticks: Sequence[Array], calls: Sequence[Sequence[KernelCall]]) -> None:
    if [t.size for t in ticks] != [len(run) + 1 for run in calls]:
        raise KernelError(
            "the network's ticks are not those of its kernels",
            why=f"{[t.size for t in ticks]} ticks for {[len(run) for run in calls]} kernels",
            fix="report it with the model",
        )
