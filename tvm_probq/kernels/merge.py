"""Run one kernel after another in a single PrimFunc."""

from collections.abc import Collection, Sequence

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

Tensor = tuple[tuple[int, ...], str]


def merge_kernels(
    kernels: Sequence[tirx.PrimFunc],
    wiring: Sequence[Sequence[int]],
    tensors: Sequence[Tensor],
    inside: Collection[int] = (),
) -> tirx.PrimFunc:
    """Concatenate scheduled kernels.

    Parameters
    ----------
    kernels : sequence of tirx.PrimFunc
        Each with a root block, run in this order; every one must be in the sequence once.
    wiring : sequence of sequences of int
        For each kernel, the index into `tensors` of each of its parameters.
    tensors : sequence of (shape, dtype)
        What the kernels read and write.
    inside : collection of int
        Tensors that only these kernels touch: allocated inside.  All others are parameters of the
        merged kernel, in their order.

    Returns
    -------
    tirx.PrimFunc
        Attributes are those of the last kernel.
    """
    memory = [tirx.decl_buffer(shape, dtype, f"t{i}") for i, (shape, dtype) in enumerate(tensors)]
    views: list[tirx.Stmt] = [tirx.AllocBuffer(memory[i]) for i in sorted(inside)]
    bodies, buffers = [], []
    for kernel, indices in zip(kernels, wiring, strict=True):
        for view, index in zip(kernel.params, indices, strict=True):
            views.append(tirx.DeclBuffer(view, data=memory[index].data))
        root = kernel.body.block
        bodies.append(root.body)
        buffers += list(root.alloc_buffers)
    block = SBlock([], [], [], "root", tirx.SeqStmt([*views, *bodies]), None, buffers)
    body = SBlockRealize([], True, block)
    params = [m for i, m in enumerate(memory) if i not in inside]
    return tirx.PrimFunc(params, body, kernels[-1].ret_type, kernels[-1].attrs)


