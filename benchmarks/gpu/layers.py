"""Times of each layer's kernel alone, of the peak's, and of a library's product in its place."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from gpu.peak import NAME, check_arch, check_peak, peak_kernel, peak_macs, peak_shape
from tvm_probq.kernels.cuda.gate import device_sources
from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.cuda.nvcc import compile_program, find_nvcc
from tvm_probq.kernels.cuda.tiles import default_tile
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.tuning.batch.measure import Clock
from tvm_probq.tuning.candidate import Candidates, differing
from tvm_probq.tuning.tasks import Task

WAIT, WAIT_CYCLES = "wait", 1 << 20
ROUNDS, WARM_UP = 21, 3
FEWEST_ROWS, MULTIPLE = 17, 8  # that `torch._int_mm` takes
Product = tuple[int, int, int]
Peer = Callable[[Product], float]


@dataclass(frozen=True)
class LayerTime:
    """What was measured of one layer.

    Attributes
    ----------
    task : Task
        The layer, and how often it occurs.
    instruction : str
        That its kernel was made for.
    us : float
        Of a call.
    peer_us : float, optional
        Of the product of matrices by a library, where the layer is one.
    """

    task: Task
    instruction: str
    us: float
    peer_us: float | None


class LayerClock:
    """Times kernels of layers on the device.

    Parameters
    ----------
    tasks : sequence of Task
        The layers.
    target : tvm.target.Target
        The device.
    tiles : Tiles
        Of their kernels, such as a tuning database.
    """

    def __init__(self, tasks: Sequence[Task], target: tvm.target.Target, tiles: Tiles) -> None:
        check_arch(str(target.attrs["arch"]))
        self._tasks, self._target = tasks, target
        self._device = tvm.cuda(0)
        self._processors = int(self._device.multi_processor_count)
        self._used = [tiles.get(task.spec) or default_tile(task.spec) for task in tasks]
        self._kernels = [
            layer_kernel(task.spec, target, tile)
            for task, tile in zip(tasks, self._used, strict=True)
        ]
        functions = {f"layer_{i}": kernel.func for i, kernel in enumerate(self._kernels)}
        self._library, self._tools = self._built(functions), self._meters()
        self._clock = Clock(self._device)
        done = tvm.runtime.tensor(np.zeros(1, np.int32), device=self._device)
        self._wait = functools.partial(self._tools[WAIT], done)

    def peak(self) -> float:
        """The device's int8 peak, in 1e12 multiply-accumulates a second."""
        out = np.zeros(peak_shape(self._processors), np.int32)
        call = functools.partial(self._tools[NAME], tvm.runtime.tensor(out, device=self._device))
        return peak_macs(self._processors) / self._us(call) * 1e-6

    def times(self, peer: Peer | None = None) -> list[LayerTime]:
        """Each layer's time, after its output was found equal to the simulator's."""
        found = []
        for number, (task, kernel) in enumerate(zip(self._tasks, self._kernels, strict=True)):
            us = self._us(self._checked(number, task.spec))
            shape = product_of(task.spec)
            peer_us = peer(shape) if peer is not None and shape is not None else None
            found.append(LayerTime(task, kernel.instruction or "", us, peer_us))
        return found

    def _built(self, functions: dict[str, Any]) -> Any:
        named = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
        with PassContext(config={"tirx.disable_assert": True}), self._target:
            return tvm.tirx.build(IRModule(named), target=self._target)

    def _meters(self) -> Any:
        """The kernels of the peak and of waiting, checked where nvcc is."""
        argument = [Argument("out", (1,), "int32")]
        name = template("wait_cycles", WAIT_CYCLES)
        wait = launch_kernel(WAIT, argument, name, ("out",), (1, 1, 1), 1)
        library = self._built({NAME: peak_kernel(self._processors), WAIT: wait})
        if find_nvcc():
            (source,) = device_sources(library)
            check_peak(compile_program(source, str(self._target.attrs["arch"])).ptx)
        return library

    def _checked(self, number: int, spec: LayerSpec) -> Callable[[], object]:
        candidates = Candidates(spec, self._target)
        arguments = candidates.arguments(self._used[number])
        tensors = [tvm.runtime.tensor(a, device=self._device) for a in arguments.values()]
        call = functools.partial(self._library[f"layer_{number}"], *tensors)
        call()
        why = differing(tensors[-1].numpy(), candidates.wanted)
        if why:
            raise SystemExit(f"error: {self._tasks[number].key}: {why}")
        return call

    def _us(self, call: Callable[[], object]) -> float:
        times = [self._clock.nanoseconds(self._wait, call) for _ in range(WARM_UP + ROUNDS)]
        return statistics.median(times[WARM_UP:]) * 1e-3


def product_of(spec: LayerSpec) -> Product | None:
    """Rows, sums and columns of a layer that is one product of matrices of bytes as it stands.

    None where a library would have to gather inputs first, or takes no such sizes.
    """
    moved = (*spec.pads, spec.strides[0] - 1, spec.strides[1] - 1)
    if spec.kernel != (1, 1) or spec.groups != 1 or any(moved) or spec.in_bits != 8:
        return None
    rows = spec.batch * spec.out_height * spec.out_width
    sizes = rows, spec.in_channels, spec.out_channels
    takes = rows >= FEWEST_ROWS and not (sizes[1] % MULTIPLE or sizes[2] % MULTIPLE)
    return sizes if takes else None
