"""Give the loops of TVM's own functions to the threads of a CUDA device."""

from typing import Any

import tvm
from tvm.ir import IRModule


@tvm.transform.module_pass(opt_level=0, name="probq.BindThreads")
class BindThreads:
    """Schedule what LegalizeOps made of float operators.

    Before::

        for i, j in T.grid(8, 64):
            y[i, j] = T.exp(x[i, j])

    After::

        for block in T.thread_binding(1, thread="blockIdx.x"):
            for thread in T.thread_binding(1024, thread="threadIdx.x"):
                ...

    Kernels of this project have their threads already and stay as they are.  Holds before:
    `relax.transform.FuseTIR`.  Holds after: every PrimFunc launches a grid.

    Parameters
    ----------
    target : tvm.target.Target
        The device.
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.target = target

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        from tvm.s_tir import dlight

        # Sums in the order of their terms, as on a CPU: other rules split them among threads.
        rules = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())
        with self.target:
            scheduled: IRModule = rules(mod)
        return scheduled
