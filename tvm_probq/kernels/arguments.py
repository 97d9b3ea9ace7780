"""Arguments of a kernel: the shapes callers see, and how a kernel over views takes them."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir.stmt import SBlock, SBlockRealize

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype, codes_shape

Shape = tuple[int, ...]


def argument_shapes(spec: LayerSpec, weights: tuple[Shape, str]) -> list[tuple[str, Shape, str]]:
    """Name, shape and dtype of every argument of the kernel of `spec`, the output last.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    weights : tuple
        Shape and dtype of the packed weights.

    Returns
    -------
    arguments : list of (name, shape, dtype)
        X, W, [T, WS, B unless the output is int32], XQ, [CORR], [YQ], [R, RQ], OUT.
    """
    n, oc = spec.batch, spec.out_channels
    x: Shape = (
        (n, spec.in_channels) if spec.flat else (n, spec.height, spec.width, spec.in_channels)
    )
    y: Shape = (n, oc) if spec.flat else (n, spec.out_height, spec.out_width, oc)
    found = [("X", codes_shape(x, spec.in_bits), codes_dtype(spec.in_bits)), ("W", *weights)]
    if spec.output != "int32":
        found += [("T", (oc,), "float32"), ("WS", (oc,), "int32"), ("B", (oc,), "float32")]
    found.append(("XQ", (n, 3, spec.in_ranges), "float32"))
    if spec.correction:
        found.append(("CORR", (n, oc), "float32"))
    if spec.output == "codes":
        found.append(("YQ", (n, 3, spec.out_ranges), "float32"))
    if spec.residual:
        bits = spec.residual_bits
        found += [("R", codes_shape(y, bits), codes_dtype(bits)), ("RQ", (n, 3, 1), "float32")]
    if spec.output == "codes":
        return [*found, ("OUT", codes_shape(y, spec.out_bits), codes_dtype(spec.out_bits))]
    return [*found, ("OUT", y, spec.output)]


def bind_arguments(func: tirx.PrimFunc, shapes: list[Shape]) -> tirx.PrimFunc:
    """`func` with arguments of `shapes`; its body keeps its views of the same memory.

    Parameters
    ----------
    func : tirx.PrimFunc
        A scheduled kernel over views.
    shapes : list of tuple of int
        Shapes the callers see, with as many elements as the views.

    Returns
    -------
    func : tirx.PrimFunc
        The same computation; a view is declared inside where the shapes differ.
    """
    params, views = [], []
    for view, shape in zip(func.params, shapes, strict=True):
        if tuple(int(extent) for extent in view.shape) == shape:
            params.append(view)
            continue
        params.append(tirx.decl_buffer(shape, view.dtype, view.name))
        views.append(tirx.DeclBuffer(view, data=params[-1].data))
    root = func.body.block
    block = SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        tirx.SeqStmt([*views, root.body]) if views else root.body,
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    body = SBlockRealize(func.body.iter_values, func.body.predicate, block)
    return tirx.PrimFunc(params, body, func.ret_type, func.attrs)
