"""Run one kernel after another in a single PrimFunc, and change where kernels find tensors."""

import math
from collections.abc import Collection, Mapping, Sequence

from tvm import tirx
from tvm.runtime import DataType
from tvm.s_tir import SBlock, SBlockRealize, renew_defs

Tensor = tuple[tuple[int, ...], str]
INSIDE = "probq.inside_bytes"
# Attribute: which argument of a kernel, a layer's residual say, its output may be written over.
RESIDUAL = "probq.residual"


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
        Each with a root block, run in this order.
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
        Attributes are those of the last kernel, and ``probq.inside_bytes``.
    """
    kernels = _distinct(kernels)
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
    merged = tirx.PrimFunc(params, body, kernels[-1].ret_type, kernels[-1].attrs)
    return merged.with_attr(INSIDE, sum(size_bytes(*tensors[i]) for i in inside))


def _distinct(kernels: Sequence[tirx.PrimFunc]) -> list[tirx.PrimFunc]:
    """`kernels` with variables of its own for each one that is in the sequence again."""
    found: list[tirx.PrimFunc] = []
    for kernel in kernels:
        found.append(renew_defs(kernel) if any(kernel.same_as(k) for k in found) else kernel)
    return found


def size_bytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a tensor."""
    return math.prod(shape) * -(-int(DataType(dtype).bits) // 8)


def write_over(kernel: tirx.PrimFunc, index: int) -> tirx.PrimFunc:
    """`kernel` with its last parameter, the output, in the memory of its parameter `index`.

    The caller knows that every element is read before it is written.
    """
    *params, output = kernel.params
    attrs = {k: v for k, v in kernel.attrs.items() if k != "tirx.noalias"}
    view = tirx.DeclBuffer(output, data=params[index].data)
    return with_views(kernel, params, [view]).with_attrs(attrs)


def pack_arguments(
    kernel: tirx.PrimFunc, offsets: Mapping[int, int], inputs: int, size_bytes: int
) -> tirx.PrimFunc:
    """`kernel` with several of its inputs in one.

    Parameters
    ----------
    kernel : tirx.PrimFunc
        A scheduled kernel.
    offsets : mapping of int to int
        By position of an input, the byte at which it starts in the new one, a multiple of 64.
    inputs : int
        How many of the parameters are inputs.
    size_bytes : int
        Size of the new input, uint8, which is the last one.
    """
    packed = tirx.decl_buffer((size_bytes,), "uint8", "packed")
    views = [
        tirx.DeclBuffer(kernel.params[i], data=tirx.address_of(packed[offset]))
        for i, offset in offsets.items()
    ]
    kept = [p for i, p in enumerate(kernel.params) if i not in offsets]
    kept.insert(inputs - len(offsets), packed)
    return with_views(kernel, kept, views).with_attrs(dict(kernel.attrs.items()))


def with_views(
    kernel: tirx.PrimFunc, params: Sequence[tirx.Buffer], views: Sequence[tirx.Stmt]
) -> tirx.PrimFunc:
    """The body of `kernel` behind declarations of views, without attributes."""
    root = kernel.body.block
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint,
        tirx.SeqStmt([*views, root.body]), root.init, root.alloc_buffers, root.match_buffers,
        root.annotations,
    )  # fmt: skip
    body = SBlockRealize(kernel.body.iter_values, kernel.body.predicate, block)
    return tirx.PrimFunc(params, body, kernel.ret_type)
