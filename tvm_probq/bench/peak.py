"""The peak of a dot-product instruction, measured by a kernel that does nothing else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T
from tvm.target.codegen import llvm_version_major

from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction

# Enough independent sums to hide the instruction's latency of 4 to 5 cycles on two ports, few
# enough to leave registers for the operands and to stay below the 1024 bytes from which on TVM
# puts a buffer on the heap.
ACCUMULATORS = 12
ROUNDS = 50_000
REPEATS = 21
NAME = "peak"
LANES = 16
MACS = {"vpdpbusd": 64}  # of one instruction, by mnemonic
_STACK = re.compile(r"\(%r[sb]p[,)]")
_VPDPBUSD = """
@T.prim_func
def peak(A: T.Buffer((64,), "uint8"), B: T.Buffer((64,), "int8"), C: T.Buffer(({total},), "int32")):
    T.func_attr({{"global_symbol": "{name}", "tirx.noalias": True}})
    sums = T.alloc_buffer(({total},), "int32", scope="local")
    for i in T.unroll({count}):
        sums[T.ramp(i * {lanes}, 1, {lanes})] = T.broadcast(0, {lanes})
    for _ in T.serial({rounds}):
        for i in T.unroll({count}):
            sums[T.ramp(i * {lanes}, 1, {lanes})] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
                sums[T.ramp(i * {lanes}, 1, {lanes})],
                T.reinterpret(A[T.ramp(0, 1, 64)], dtype="{operand}"),
                T.reinterpret(B[T.ramp(0, 1, 64)], dtype="{operand}"),
                dtype="int32x{lanes}",
            )
    for i in T.unroll({count}):
        C[T.ramp(i * {lanes}, 1, {lanes})] = sums[T.ramp(i * {lanes}, 1, {lanes})]
"""


def peak_gmacs(instruction: str, target: tvm.target.Target) -> float | None:
    """Multiply-accumulates a nanosecond of one core with an instruction.

    Parameters
    ----------
    instruction : str
        Its mnemonic.
    target : tvm.target.Target
        What kernels are compiled for.

    Returns
    -------
    float or None
        Median; None for an instruction whose peak cannot be measured here.

    Raises
    ------
    KernelError
        If the compiler spilled the sums, so that the figure would be no peak.
    """
    if instruction not in MACS:
        return None
    library = compile_peak(target)
    check_peak(str(library.inspect_source("asm")), instruction)
    operands = (np.full(64, 3, np.uint8), np.full(64, -2, np.int8))
    sums = np.zeros(ACCUMULATORS * LANES, np.int32)
    arguments = [tvm.runtime.tensor(array) for array in (*operands, sums)]
    evaluator = library.time_evaluator(NAME, tvm.cpu(), number=1, repeat=REPEATS)
    seconds = float(evaluator(*arguments).median)
    return MACS[instruction] * ACCUMULATORS * ROUNDS / seconds * 1e-9


def compile_peak(target: tvm.target.Target) -> Any:
    """Compile the kernel."""
    text = _VPDPBUSD.format(
        name=NAME, count=ACCUMULATORS, lanes=LANES, total=ACCUMULATORS * LANES, rounds=ROUNDS,
        operand="int8x64" if llvm_version_major() >= 22 else "int32x16",
    )  # fmt: skip
    func = tvm.script.from_source(text, extra_vars={"T": T})
    return tirx.build(tvm.IRModule({NAME: func}), target=target)


def check_peak(assembly: str, instruction: str) -> None:
    """Raise a KernelError unless the instruction is there and the loop leaves the stack alone."""
    lines = assembly.splitlines()
    places = [i for i, line in enumerate(lines) if count_instruction(line, instruction)]
    found = len(places)
    if found < ACCUMULATORS:
        why = f"{found} of {ACCUMULATORS} {instruction} are in the assembly"
    elif any(_STACK.search(line) for line in lines[places[0] : places[-1]]):
        why = "a sum is kept on the stack and not in a register"
    else:
        return
    raise KernelError(
        f"the peak of {instruction} cannot be measured", where="bench --layers", why=why,
        fix="report it with the TVM and LLVM versions that `tvm-probq doctor` prints",
    )  # fmt: skip
