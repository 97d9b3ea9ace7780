"""Store nothing as codes that only float layers read."""

from collections.abc import Iterator
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.calibration.marked import Marked, marked_tensors
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite, variables_of
from tvm_probq.passes.quantize_weights import is_quantized
from tvm_probq.plan.plan import Plan

ON_CODES = ("pool", "add", "multiply", "concat", "matmul")


@tvm.transform.module_pass(opt_level=0, name="probq.LeaveFloat")
class LeaveFloat:
    """Remove the markers of tensors that no integer operator makes or reads under a plan.

    Before, with ``mode = "float"`` for ``conv1`` and ``conv2``::

        x1 = R.probq.layer(x, name="input", kind="input")
        lv = R.nn.conv2d(x1, w)
        lv1 = R.probq.layer(lv, name="conv1", kind="conv2d")
        lv2 = R.nn.conv2d(lv1, w1)
        lv3 = R.probq.layer(lv2, name="conv2", kind="conv2d")
        lv4 = R.nn.conv2d(lv3, w2)

    After::

        lv = R.nn.conv2d(x, w)
        lv2 = R.nn.conv2d(lv, w1)
        lv3 = R.probq.layer(lv2, name="conv2", kind="conv2d")
        lv4 = R.nn.conv2d(lv3, w2)

    Parameters
    ----------
    plan : Plan
        Which layers are float.

    Holds before: `AnnotateLayers`.  Holds after: a layer of mode ``float`` has a marker only if an
    integer operator reads its output.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        if all(layer.mode != "float" for layer in (self.plan.default, *self.plan.layers.values())):
            return mod
        marked = marked_tensors(mod)
        kept = _kept(Definitions(mod["main"]), marked, self.plan)
        if len(kept) == len(marked):
            return mod

        def visit(_rewriter: Rewriter, _old: Call, new: Call) -> relax.Expr | None:
            removed = is_call(new, "probq.layer") and str(new.attrs["name"]) not in kept
            return new.args[0] if removed else None

        return rewrite(mod, visit)


def _kept(definitions: Definitions, marked: dict[str, Marked], plan: Plan) -> set[str]:
    """Names of the markers that integer operators make or read."""
    kept, waiting = set(), []
    for name, tensor in marked.items():
        if tensor.layer is not None and is_quantized(tensor.kind, plan.layer(name)):
            kept.add(name)
            waiting += [tensor.layer.x]
            waiting += [] if tensor.layer.residual is None else [tensor.layer.residual]
        elif tensor.is_matmul and plan.layer(name).mode != "float":
            kept.add(name)
            waiting += variables_of(tensor.pair)
    while waiting:
        for name in _markers_behind(definitions, waiting.pop()):
            if name not in kept:
                kept.add(name)
                if marked[name].kind in ON_CODES and plan.layer(name).mode != "float":
                    waiting += variables_of(marked[name].call)
    return kept


def _markers_behind(definitions: Definitions, var: Any) -> Iterator[str]:
    """Names of the nearest markers that a tensor is made from."""
    seen, waiting = set(), [var]
    while waiting:
        var = waiting.pop()
        value = definitions.value(var)
        if var in seen or isinstance(value, relax.Var):
            continue
        seen.add(var)
        if is_call(value, "probq.layer"):
            yield str(value.attrs["name"])
        else:
            waiting += variables_of(value)
