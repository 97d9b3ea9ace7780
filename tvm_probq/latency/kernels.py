"""The kernels of a network and what their time depends on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.ir import IRModule

from tvm_probq.ir.expressions import is_constant
from tvm_probq.ir.memory import tensor_bytes
from tvm_probq.kernels.calls import result_types
from tvm_probq.kernels.gate import INSTRUCTION
from tvm_probq.latency.work import KINDS, work_of
from tvm_probq.passes.insert_ticks import kernel_runs
from tvm_probq.target.registers import vector_bytes

BYTES = ("constant_bytes", "read_bytes", "written_bytes")
COUNTS = (*KINDS, *BYTES)
DIGITS = 6  # of counts that are halved by branches


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel.

    Attributes
    ----------
    name : str
        Of the function; calls of the same code share it.
    instruction : str
        The mnemonic of a layer's dot product; empty for all other kernels.
    counts : tuple of float
        By `COUNTS`: the work of one run, and the bytes of the constants, of the other tensors that
        it reads, and of those that it writes.
    """

    name: str
    instruction: str
    counts: tuple[float, ...]

    def count(self, kind: str) -> float:
        """One of its counts, by name."""
        return self.counts[COUNTS.index(kind)]


def kernel_calls(mod: IRModule, target: tvm.target.Target) -> list[list[KernelCall]]:
    """Describe every kernel call of a graph, one list a run of `kernel_runs`.

    Parameters
    ----------
    mod : IRModule
        Of kernel calls, fused, not yet called ahead of time.
    target : tvm.target.Target
        Whose registers are counted in.
    """
    work = functools.cache(lambda function: work_of(mod[function], vector_bytes(target)))
    return [[_described(mod, call, work(call.args[0])) for call in run] for run in kernel_runs(mod)]


def _described(mod: IRModule, call: Any, work: Mapping[str, float]) -> KernelCall:
    arguments = list(call.args[1].fields)
    constants = sum(tensor_bytes(a.ty) for a in arguments if is_constant(a))
    read = sum(tensor_bytes(a.ty) for a in arguments) - constants
    written = sum(map(tensor_bytes, result_types(call.ty)))
    counts = (*(float(f"{work.get(kind, 0.0):.{DIGITS}g}") for kind in KINDS),
              float(constants), float(read), float(written))  # fmt: skip
    attrs = mod[call.args[0]].attrs or {}
    return KernelCall(str(call.args[0].name_hint), str(attrs.get(INSTRUCTION, "")), counts)
