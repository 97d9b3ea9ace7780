"""Times kernels by the device's own clock, without the host's time; and the peak of bytes."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from gpu import peak
from tvm_probq.kernels.cuda.gate import device_sources
from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.cuda.nvcc import compile_program, find_nvcc
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.tuning.batch.measure import Clock

WAIT, WAIT_CYCLES = "wait", 1 << 20
ROUNDS, WARM_UP = 21, 3
Call = Callable[[], object]


class Meter:
    """Times what is called on a device.

    Parameters
    ----------
    target : tvm.target.Target
        The device.

    Attributes
    ----------
    device : Device
        TVM's.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.device = tvm.cuda(0)
        self._target, self._clock = target, Clock(self.device)
        argument = [Argument("out", (1,), "int32")]
        name = template("wait_cycles", WAIT_CYCLES)
        wait = launch_kernel(WAIT, argument, name, ("out",), (1, 1, 1), 1)
        done = self.tensor(np.zeros(1, np.int32))
        self._wait = functools.partial(self.built({WAIT: wait})[WAIT], done)

    def peak(self) -> float | None:
        """Products of bytes by tensor cores, 1e12 a second; None on a device without them."""
        arch = str(self._target.attrs["arch"])
        if not peak.has_products(arch):
            return None
        processors = int(self.device.multi_processor_count)
        library = self.built({peak.NAME: peak.peak_kernel(processors)})
        if find_nvcc():
            (source,) = device_sources(library)
            peak.check_peak(compile_program(source, arch).ptx)
        out = self.tensor(np.zeros(peak.peak_shape(processors), np.int32))
        us = self.us(functools.partial(library[peak.NAME], out))
        return peak.peak_macs(processors) / us * 1e-6

    def us(self, call: Call) -> float:
        """Median time of a call on the device, which gets its work while it is kept busy."""
        times = [self._clock.nanoseconds(self._wait, call) for _ in range(WARM_UP + ROUNDS)]
        return statistics.median(times[WARM_UP:]) * 1e-3

    def built(self, functions: dict[str, Any]) -> Any:
        """A library of PrimFuncs, which do not check their arguments."""
        named = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
        with PassContext(config={"tirx.disable_assert": True}), self._target:
            return tvm.tirx.build(IRModule(named), target=self._target)

    def tensor(self, value: Any) -> Any:
        """An array on the device."""
        return tvm.runtime.tensor(np.ascontiguousarray(value), device=self.device)
