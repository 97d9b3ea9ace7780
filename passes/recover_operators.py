"""Turn the loop nests that the ONNX importer emits for Clip and Pad back into operators."""

import itertools
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import Call, IRModule
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock
from tvm_ffi import structural_walk

from tvm_probq.ir.expressions import ints, is_call, is_tensor, shape_of
from tvm_probq.ir.rewrite import Rewriter, rewrite


@tvm.transform.module_pass(opt_level=0, name="probq.RecoverOperators")
class RecoverOperators:
    """Replace ``call_tir`` of elementwise maximum, minimum and constant padding by Relax operators.

    Before::

        lv1 = R.call_tir(cls.maximum, (lv, R.const(0.0, "float32")), out_ty=...)
        lv2 = R.call_tir(cls.pad, (lv1,), out_ty=...)
        lv3 = R.sum(R.stack((lv2, lv), axis=0), axis=[0])
        lv4 = R.split(lv3, indices_or_sections=2, axis=1)
        lv5 = R.nn.dropout(lv3)[0]

    After::

        lv1 = R.maximum(lv, R.const(0.0, "float32"))
        lv2 = R.nn.pad(lv1, pad_width=[...], pad_value=0.0)
        lv3 = R.add(lv2, lv)
        lv4 = R.strided_slice(lv3, [1], [0], [8]), R.strided_slice(lv3, [1], [8], [16])
        lv5 = lv3

    The loop nest is recognized by what it computes, not by its name.  Holds before: nothing.  Holds
    after: no loop nest that is one of these operators remains.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if is_call(new, "call_tir"):
                return _recover(mod[new.args[0]], new)
            if is_call(new, "sum"):
                return _recover_sum(rewriter, new)
            if is_call(new, "nn.dropout"):
                return relax.Tuple([new.args[0], relax.op.ones_like(new.args[0])])
            if is_call(new, "split") and is_tensor(new.args[0]):
                return _slices(rewriter, new)
            return None

        return rewrite(mod, visit)


def _recover(func: tirx.PrimFunc, call: Call) -> relax.Expr | None:
    blocks = _named_blocks(func)
    if len(blocks) != 1 or not isinstance(blocks[0].body, tirx.BufferStore):
        return None
    value, args = blocks[0].body.value, call.args[1]
    operators = ((tirx.Max, relax.op.maximum), (tirx.Min, relax.op.minimum))
    for node, operator in operators:
        if not isinstance(value, node):
            continue
        if len(args) == 2 and _loads_parameters(func, value.a, value.b):
            return operator(args[0], args[1])
        bound = value.b
        if len(args) == 1 and isinstance(bound, tirx.FloatImm) and _loads_parameters(func, value.a):
            return operator(args[0], relax.const(float(bound.value), bound.ty.dtype))
    if is_conditional(value) and len(args) == 1:
        return _recover_pad(func, value, args[0])
    return None


def _named_blocks(func: tirx.PrimFunc) -> list[Any]:
    blocks: list[Any] = []
    structural_walk(func.body, [(SBlock, blocks.append)])
    return [b for b in blocks if b.name_hint != "root"]


def _loads_parameters(func: tirx.PrimFunc, *loads: Any) -> bool:
    """Whether `loads` are plain elements of the function's first buffers."""
    params = list(func.params)[: len(loads)]
    return all(
        isinstance(load, TensorLoad) and load.source.same_as(param)
        for load, param in zip(loads, params, strict=True)
    )


def is_conditional(value: Any) -> bool:
    """Whether `value` is an ``if_then_else`` of a load and a number."""
    return (
        isinstance(value, Call)
        and str(value.op.name).endswith("if_then_else")
        and isinstance(value.args[1], TensorLoad)
        and isinstance(value.args[2], tirx.FloatImm)
    )


def _recover_pad(func: tirx.PrimFunc, value: Any, x: relax.Expr) -> relax.Expr | None:
    """Offsets of the load are the padding in front; shapes give the padding behind."""
    before = [_offset(index) for index in value.args[1].indices]
    out_shape = [int(d) for d in func.params[1].shape]
    if any(b is None for b in before):
        return None
    widths: list[int] = []
    for b, inside, outside in zip(before, shape_of(x), out_shape, strict=True):
        widths += [int(b or 0), outside - inside - int(b or 0)]
    if min(widths) < 0:
        return None
    return relax.op.nn.pad(x, widths, pad_value=float(value.args[2].value))


def _offset(index: Any) -> int | None:
    """n of the index ``v - n``; None when it has another form."""
    if isinstance(index, tirx.Var):
        return 0
    if isinstance(index, tirx.Sub) and isinstance(index.b, tirx.IntImm):
        return int(index.b.value) if isinstance(index.a, tirx.Var) else None
    return None


def _recover_sum(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """ONNX ``Sum`` arrives as stack and sum over the new axis."""
    stack = rewriter.value(call.args[0])
    if not is_call(stack, "stack") or call.attrs.keepdims or call.attrs.axis is None:
        return None
    if [int(a) for a in call.attrs.axis] != [int(stack.attrs.axis)]:
        return None
    operands = [_unbroadcast(rewriter, x) for x in rewriter.value(stack.args[0])]
    if np.broadcast_shapes(*map(shape_of, operands)) != shape_of(call):
        return None
    total = operands[0]
    for operand in operands[1:]:
        total = rewriter.emit(relax.op.add(total, operand))
    return total


def _slices(rewriter: Rewriter, split: Call) -> relax.Expr:
    """The parts of a split one by one: slices work on codes, tuples do not."""
    size, axis = shape_of(split.args[0])[int(split.attrs.axis)], int(split.attrs.axis)
    parts, at = len(split.ty.fields), split.attrs.indices_or_sections
    width = -(-size // parts)
    inner = range(width, parts * width, width) if isinstance(at, int | tirx.IntImm) else ints(at)
    ends = [0, *(min(i, size) for i in inner), size]
    slices = [
        rewriter.emit(relax.op.strided_slice(split.args[0], [axis], [low], [high]))
        for low, high in itertools.pairwise(ends)
    ]
    return relax.Tuple(slices)


def _unbroadcast(rewriter: Rewriter, x: Any) -> Any:
    """`x` before the importer broadcast it, which an addition does by itself."""
    value = rewriter.value(x)
    return value.args[0] if is_call(value, "broadcast_to") else x
