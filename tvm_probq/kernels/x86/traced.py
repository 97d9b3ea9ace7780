"""A convolution scheduled by a trace of MetaSchedule instead of the template."""

from __future__ import annotations

import json

from tvm import s_tir
from tvm.ir import IRModule
from tvm.s_tir.schedule import Trace

from tvm_probq.kernels.x86.conv_workload import Workload


def replay(work: Workload, trace: str) -> IRModule:
    """Apply a trace, as JSON, to a workload.

    The result is not checked: an edited trace may compute something else.
    """
    sch = s_tir.Schedule(work.func)
    Trace.apply_json_to_schedule(json.loads(trace), sch)
    return sch.mod
