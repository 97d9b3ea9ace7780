"""PrimFuncs that launch device code."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.cuda.source import register
from tvm_probq.kernels.small.emit import OPAQUE, Argument

Grid = tuple[int, int, int]


def launch_kernel(
    kind: str, arguments: Sequence[Argument], function: str, order: Sequence[str], grid: Grid,
    threads: int,
) -> tirx.PrimFunc:  # fmt: skip
    """A PrimFunc that calls a device function in every thread.

    Parameters
    ----------
    kind : str
        What it computes, as for kernels of CPUs.
    arguments : sequence of Argument
        Inputs, then outputs.
    function : str
        The device function, with template arguments.
    order : sequence of str
        Which arguments it takes. For one that the kernel lacks it gets the first one's address,
        and does not read it.
    grid : tuple of int
        Blocks along x, y and z.
    threads : int
        Threads of a block.
    """
    with IRBuilder() as builder, ir.prim_func(s_tir=True):
        ir.func_name(kind)
        buffers = {a.name: ir.arg(a.name, ir.buffer(a.shape, a.dtype)) for a in arguments}
        flags = {"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": OPAQUE}
        ir.func_attr({**flags, "probq.kernel": f"probq_{kind}"})
        first = next(iter(buffers.values()))
        pointers = [buffers.get(name, first).data for name in order]
        with ir.sblock("root"):
            ir.reads([])
            ir.writes([])
            with (
                ir.launch_thread("blockIdx.x", grid[0]),
                ir.launch_thread("blockIdx.y", grid[1]),
                ir.launch_thread("blockIdx.z", grid[2]),
                ir.launch_thread("threadIdx.x", threads),
            ):
                ir.evaluate(tirx.call_extern("int32", function, *pointers))
    return builder.get().without_attr("global_symbol")


register()  # calls of device code need its definition
