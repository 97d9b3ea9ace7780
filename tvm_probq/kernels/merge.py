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


def write_over(kernel: tirx.PrimFunc, index: int) -> tirx.PrimFunc:
    """`kernel` with its last parameter, the output, in the memory of its parameter `index`.

    The caller knows that every element is read before it is written.
    """
    output, target = kernel.params[-1], kernel.params[index]
    root = kernel.body.block
    view = tirx.DeclBuffer(output, data=target.data)
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, tirx.SeqStmt([view, root.body]),
        root.init, root.alloc_buffers, root.match_buffers, root.annotations,
    )  # fmt: skip
    body = SBlockRealize(kernel.body.iter_values, kernel.body.predicate, block)
    attrs = {k: v for k, v in kernel.attrs.items() if k != "tirx.noalias"}
    return tirx.PrimFunc(list(kernel.params)[:-1], body, kernel.ret_type).with_attrs(attrs)
