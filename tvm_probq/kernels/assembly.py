"""What TVM really generated: instructions in the assembly, bytes of the buffers inside a kernel."""

from __future__ import annotations

import re
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.runtime import DataType

from tvm_probq.errors import KernelError

SUM_BITS = 32
# LLVM makes two instructions of one, of which the first is this, where a sum is waited for.
TAKEN_APART = {"vpdpwssd": "vpmaddwd"}
_COMMENT = re.compile(r"(#|//|;).*")
_COMPACT = tvm.transform.Sequential(
    [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerOpaqueBlock(),
    ]
)


def count_instruction(lib_or_asm: tvm.runtime.Module | str, mnemonic: str) -> int:
    """Occurrences of `mnemonic` in the assembly of a module (comments and labels do not count).

    Nor do instructions on ARM's general registers, where addresses are computed by what has the
    name of a vector instruction, such as smull.  What LLVM took apart (`TAKEN_APART`) counts too.

    Parameters
    ----------
    lib_or_asm : tvm.runtime.Module or str
        A module compiled for a CPU, or its assembly.
    mnemonic : str
        The whole mnemonic, such as "vpdpbusd".

    Returns
    -------
    count : int
    """
    asm = lib_or_asm if isinstance(lib_or_asm, str) else lib_or_asm.inspect_source("asm")
    names = "|".join(map(re.escape, (mnemonic, TAKEN_APART.get(mnemonic, mnemonic))))
    pattern = re.compile(rf"^\s+(\{{vex\}}\s+)?({names})(\s+(?![xw]\d)|$)")
    return sum(bool(pattern.match(_COMMENT.sub("", line))) for line in asm.splitlines())


def workspace(mod: tvm.IRModule | tirx.PrimFunc) -> tuple[int, int]:
    """Bytes of the buffers inside the largest PrimFunc of a scheduled module, by element width.

    Parameters
    ----------
    mod : tvm.IRModule or tirx.PrimFunc
        Scheduled, not lowered.

    Returns
    -------
    workspace_bytes, scratch_bytes : int
        Elements of 32 bits (accumulators); narrower ones (padded rows, say, or widened codes).

    Raises
    ------
    KernelError
        When the size of a buffer is not a constant.
    """
    if isinstance(mod, tirx.PrimFunc):
        mod = tvm.IRModule({"main": mod.with_attr("global_symbol", "main")})
    totals = [_split(func) for func in _COMPACT(mod).functions.values()]
    return max(wide for wide, _ in totals), max(narrow for _, narrow in totals)


def _split(func: tirx.PrimFunc) -> tuple[int, int]:
    found: list[tirx.Buffer] = []

    def note(node: Any) -> None:
        found.append(node.buffer)

    tvm_ffi.structural_walk(func.body, [(tirx.AllocBuffer, note)])
    wide = narrow = 0
    for buffer in found:
        bits = DataType(buffer.dtype).bits
        size = _elements(buffer) * bits // 8
        wide, narrow = (wide + size, narrow) if bits >= SUM_BITS else (wide, narrow + size)
    return wide, narrow


def _elements(buffer: tirx.Buffer) -> int:
    total = 1
    for extent in buffer.shape:
        if not isinstance(extent, tirx.IntImm | int):
            raise KernelError(
                "a buffer inside a kernel has no constant size",
                where=str(buffer.name),
                why=f"its shape is {buffer.shape}",
                fix="schedule it inside a loop of constant extent",
            )
        total *= int(extent)
    return total
