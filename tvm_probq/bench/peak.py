"""The peak of a dot-product instruction, measured by a kernel that does nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T
from tvm.target.codegen import llvm_version_major, target_has_features

from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.target.host import ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA

ROUNDS = 20_000
REPEATS = 21
NAME = "peak"
BYTES = 1024  # of each operand, at least what one instruction reads
_STACK = re.compile(r"\(%r[sb]p[,)]")
_HEAD = """
@T.prim_func
def peak(
    A: T.Buffer(({bytes},), "uint8"),
    B: T.Buffer(({bytes},), "int8"),
    C: T.Buffer(({total},), "int32"),
):
    T.func_attr({{"global_symbol": "{name}", "tirx.noalias": True}})
"""
_VPDPBUSD = """
    sums = T.alloc_buffer(({total},), "int32", scope="local")
    for i in T.unroll({count}):
        sums[T.ramp(i * {lanes}, 1, {lanes})] = T.broadcast(0, {lanes})
    for _ in T.serial({rounds}):
        for i in T.unroll({count}):
            sums[T.ramp(i * {lanes}, 1, {lanes})] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.{bits}"),
                sums[T.ramp(i * {lanes}, 1, {lanes})],
                T.reinterpret(A[T.ramp(0, 1, {width})], dtype="{operand}"),
                T.reinterpret(B[T.ramp(0, 1, {width})], dtype="{operand}"),
                dtype="int32x{lanes}",
            )
    for i in T.unroll({count}):
        C[T.ramp(i * {lanes}, 1, {lanes})] = sums[T.ramp(i * {lanes}, 1, {lanes})]
"""
# Palette 1, eight registers of 16 rows of 64 bytes; the last two hold the operands.
_TDPBUSD = """
    T.evaluate(T.call_extern("int64", "syscall", {permission}))
    config = T.alloc_buffer((64,), "uint8")
    for i in T.serial(64):
        config[i] = T.uint8(0)
    config[0] = T.uint8(1)
    for i in T.serial(8):
        config[16 + 2 * i] = T.uint8(64)
        config[48 + i] = T.uint8(16)
    T.evaluate(T.call_llvm_intrin("int32", "llvm.x86.ldtilecfg", T.address_of(config[0])))
{zeros}
    {load}T.uint8(6), T.address_of(A[0]), T.int64(64)))
    {load}T.uint8(7), T.address_of(B[0]), T.int64(64)))
    for _ in T.serial({rounds}):
{products}
{stores}
    T.evaluate(T.call_llvm_intrin("int32", "llvm.x86.tilerelease"))
"""
_CALL = 'T.evaluate(T.call_llvm_intrin("int32", "llvm.x86.{name}", '


@dataclass(frozen=True)
class Peak:
    """The kernel of one instruction.

    Attributes
    ----------
    body : str
        TVMScript.
    macs : int
        Of one instruction.
    count : int
        Independent sums: enough to hide the instruction's latency, few enough for all to have
        registers, and below the 1024 bytes from which on TVM puts a buffer on the heap.
    lanes : int
        32-bit numbers in one sum.
    """

    body: str
    macs: int
    count: int
    lanes: int


def _tiles(count: int) -> str:
    def lines(indent: int, text: str) -> str:
        return "\n".join(" " * indent + text.format(i=i, at=i * 256) for i in range(count))

    zero, product, store = (
        _CALL.format(name=name) for name in ("tilezero", "tdpbusd", "tilestored64")
    )
    return _TDPBUSD.format(
        permission=f"{ARCH_PRCTL}, {REQUEST_PERMISSION}, {TILE_DATA}",
        load=_CALL.format(name="tileloadd64"),
        zeros=lines(4, zero + "T.uint8({i})))"),
        products=lines(8, product + "T.uint8({i}), T.uint8(6), T.uint8(7)))"),
        stores=lines(4, store + "T.uint8({i}), T.address_of(C[{at}]), T.int64(64)))"),
        rounds="{rounds}",
    )


PEAKS = {
    "vpdpbusd": Peak(_VPDPBUSD, macs=64, count=12, lanes=16),
    "tdpbusd": Peak(_tiles(6), macs=16 * 16 * 64, count=6, lanes=256),
}
# The same instruction where there is AVX-VNNI and no AVX-512.
NARROW = Peak(_VPDPBUSD, macs=32, count=12, lanes=8)


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
        Median; None for an instruction without a kernel in `PEAKS`.

    Raises
    ------
    KernelError
        If the compiler spilled the sums, so that the figure would be no peak.
    """
    if instruction not in PEAKS:
        return None
    peak = PEAKS[instruction]
    if instruction == "vpdpbusd" and not target_has_features("avx512vnni", target):
        peak = NARROW
    library = compile_peak(peak, target)
    check_peak(str(library.inspect_source("asm")), instruction)
    operands = (np.full(BYTES, 3, np.uint8), np.full(BYTES, -2, np.int8))
    sums = np.zeros(peak.count * peak.lanes, np.int32)
    arguments = [tvm.runtime.tensor(array) for array in (*operands, sums)]
    evaluator = library.time_evaluator(NAME, tvm.cpu(), number=1, repeat=REPEATS)
    seconds = float(evaluator(*arguments).median)
    return peak.macs * peak.count * ROUNDS / seconds * 1e-9


def compile_peak(peak: Peak, target: tvm.target.Target) -> Any:
    """Compile a kernel."""
    text = (_HEAD + peak.body).format(
        name=NAME, bytes=BYTES, count=peak.count, total=peak.count * peak.lanes, rounds=ROUNDS,
        lanes=peak.lanes, bits=peak.lanes * 32, width=peak.lanes * 4,
        operand=f"int8x{peak.lanes * 4}" if llvm_version_major() >= 22 else f"int32x{peak.lanes}",
    )  # fmt: skip
    func = tvm.script.from_source(text, extra_vars={"T": T})
    return tirx.build(tvm.IRModule({NAME: func}), target=target)


def check_peak(assembly: str, instruction: str) -> None:
    """Raise a KernelError unless the instruction is there and the loop leaves the stack alone."""
    lines = assembly.splitlines()
    places = [i for i, line in enumerate(lines) if count_instruction(line, instruction)]
    wanted = PEAKS[instruction].count
    if len(places) < wanted:
        why = f"{len(places)} of {wanted} {instruction} are in the assembly"
    elif any(_STACK.search(line) for line in lines[places[0] : places[-1]]):
        why = "a sum is kept on the stack and not in a register"
    else:
        return
    raise KernelError(
        f"the peak of {instruction} cannot be measured", where="bench --layers", why=why,
        fix="report it with the TVM and LLVM versions that `tvm-probq doctor` prints",
    )  # fmt: skip
