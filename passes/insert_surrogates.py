"""Store every marked tensor as codes, under parameters predicted before the layer runs."""

from dataclasses import replace
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.calibration.marked import (
    PAIRS,
    Marked,
    layer_calls,
    marked_tensors,
    operator_behind,
    residual_adds,
)
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.layers import keeps_parameters, operands
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.passes.propagate_quantized import move_codes
from tvm_probq.passes.quantize_weights import is_quantized
from tvm_probq.plan.plan import LayerPlan, Plan
from tvm_probq.plan.widths import WIDEST
from tvm_probq.simulator.numerics import merge_ranges
from tvm_probq.surrogate.attach import (
    attach_correction,
    attach_surrogate,
    pair_surrogate,
    static_qparams,
    sums_of,
)
from tvm_probq.surrogate.levels import levels_of
from tvm_probq.surrogate.wide_codes import is_wide, moves_wide_codes, wide_codes

INPUT_BITS = 8
Pair = tuple[Any, Any]


@tvm.transform.module_pass(opt_level=0, name="probq.InsertSurrogates")
class InsertSurrogates:
    """Quantize and dequantize every marked tensor under parameters that its mode provides.

    Before::

        lv1 = R.nn.conv2d(x, w)
        lv2 = R.probq.layer(lv1, name="conv1", kind="conv2d")

    After, in predicted mode::

        s = R.probq.sums(x_q)
        qp = R.probq.surrogate(s, x_qp, ...)
        shift = R.probq.correction(s, x_qp, ...)
        lv1 = R.add(R.nn.conv2d(R.probq.dequantize(x_q, x_qp), w), shift)
        q = R.probq.layer(R.probq.quantize(lv1, qp), name="conv1", kind="conv2d")
        lv2 = R.probq.dequantize(q, qp)

    Static mode has constant parameters, dynamic mode ``R.probq.observe(lv1)``.  Of a module that
    keeps those of its file (`AnnotateKept`) codes are only moved to their readers.

    Of a tensor that is stored in 16 bits (`wide_codes`) layers read the codes themselves, as input
    or residual; everything else reads one copy in 8 bits, over the same range::

        q8_qp = R.probq.merge_ranges(qp, qmax=255)
        q8 = R.probq.rescale(q, qp, q8_qp)

    Parameters
    ----------
    plan : Plan
        Mode, bits and surrogate of each layer.
    record : CalibrationRecord
        Of the same model.

    Holds before: `AnnotateLayers`.  Holds after: every operand of a quantized layer is dequantized
    from codes.
    """

    def __init__(self, plan: Plan, record: CalibrationRecord) -> None:
        self.plan = plan
        self.record = record

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        if keeps_parameters(mod):
            return rewrite(mod, lambda rewriter, _old, new: move_codes(rewriter, new))
        marked = marked_tensors(mod)
        wide = wide_codes(mod, marked, self.plan, self.record)
        inserter = _Inserter(self.plan, self.record, marked, wide)
        return rewrite(mod, inserter.visit)


class _Inserter:
    """Visits calls; remembers the codes that each layer reads."""

    def __init__(
        self, plan: Plan, record: CalibrationRecord, marked: dict[str, Marked],
        wide: dict[str, int],
    ) -> None:  # fmt: skip
        self.plan = plan
        self.record = record
        self.marked = marked
        self.wide = wide
        self.narrow: dict[Any, Pair] = {}
        self.products = layer_calls(marked)
        self.inputs: dict[str, Pair] = {}
        self.residuals: dict[str, Pair] = {}
        self.sums: dict[Any, Any] = {}
        self.residual_adds = residual_adds(marked)

    def visit(self, rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        """Rewrite one call."""
        if old in self.products:
            return self._product(rewriter, self.products[old], new)
        if old in self.residual_adds:
            self._remember_residual(rewriter, self.residual_adds[old], old, new)
            return None
        if is_call(new, "probq.layer"):
            return self._marker(rewriter, self.marked[str(new.attrs["name"])], new)
        if moves_wide_codes(new):
            return move_codes(rewriter, new)
        narrowed = self._reading_narrow(rewriter, new)
        moved = move_codes(rewriter, narrowed)
        return narrowed if moved is None else moved

    def _reading_narrow(self, rewriter: Rewriter, call: Call) -> Call:
        """`call` on codes of 8 bits in place of those of 16."""

        def narrow(x: Any) -> Any:
            value = rewriter.value(x)
            if isinstance(value, relax.Tuple):
                fields = [narrow(field) for field in value.fields]
                same = all(a.same_as(b) for a, b in zip(fields, value.fields, strict=True))
                return x if same else relax.Tuple(fields)
            pair = codes_behind(rewriter, x)
            if pair is None or not is_wide(pair[0]):
                return x
            return rewriter.emit(ops.dequantize(*self._narrow(rewriter, pair)))

        args = [narrow(x) for x in call.args]
        if all(a.same_as(b) for a, b in zip(args, call.args, strict=True)):
            return call
        return Call(call.op, args, call.attrs, call.ty_args)

    def _narrow(self, rewriter: Rewriter, pair: Pair) -> Pair:
        """Codes of 8 bits for a tensor, those of 16 rounded once for all their readers."""
        codes, qparams = pair
        if not is_wide(codes):
            return pair
        if codes not in self.narrow:
            known = rewriter.value(qparams)
            if is_constant(known):
                narrow = constant(merge_ranges([constant_value(known)], ops.MAX_CODE))
            else:
                narrow = rewriter.emit(ops.merge_ranges([qparams], qmax=ops.MAX_CODE))
            self.narrow[codes] = rewriter.emit(ops.rescale(codes, qparams, narrow)), narrow
        return self.narrow[codes]

    def _product(self, rewriter: Rewriter, name: str, new: Call) -> relax.Expr | None:
        pair = codes_behind(rewriter, new.args[0])
        marked, plan = self.marked[name], self.plan.layer(name)
        if pair is None or not is_quantized(marked.kind, plan):
            return None
        self.inputs[name] = pair = self._narrow(rewriter, pair)
        if plan.rounding_correction != "predicted" or marked.layer is None:
            return None
        matrix = attach_correction(
            rewriter, marked.layer, self.record.tensor(name), plan, pair, self._sums(rewriter, pair)
        )
        if matrix is None:
            return None
        y = rewriter.emit(new)
        n, channels = shape_of(matrix)
        shape = (n,) + (1,) * (len(shape_of(y)) - 2) + (channels,)
        return relax.op.add(y, rewriter.emit(relax.op.reshape(matrix, shape)))

    def _remember_residual(self, rewriter: Rewriter, name: str, old: Call, new: Call) -> None:
        layer = self.marked[name].layer
        index = 0 if layer is not None and old.args[0].same_as(layer.residual) else 1
        pair = codes_behind(rewriter, new.args[index])
        if pair is not None:
            self.residuals[name] = self._narrow(rewriter, pair)

    def _sums(self, rewriter: Rewriter, pair: Pair) -> Any:
        """Sums of a tensor, emitted once and shared by all its readers."""
        if pair[0] not in self.sums:
            self.sums[pair[0]] = sums_of(rewriter, pair[0], self.plan)
        return self.sums[pair[0]]

    def _marker(self, rewriter: Rewriter, marked: Marked, new: Call) -> relax.Expr | None:
        plan = self.plan.layer(marked.name)
        y = new.args[0]
        if marked.kind == "output" or str(y.ty.dtype) == "uint8":
            return None
        qmax = self._largest_code(marked, plan)
        qparams = self._qparams(rewriter, marked, plan, y, qmax)
        codes = rewriter.emit(ops.quantize(y, qparams, qmax=qmax))
        codes = rewriter.emit(
            ops.layer(codes, name=marked.name, kind=marked.kind, reason=marked.reason),
            name="q",
        )
        return ops.dequantize(codes, qparams)

    def _largest_code(self, marked: Marked, plan: LayerPlan) -> int:
        if marked.name in self.wide:
            return self.wide[marked.name]
        bits = INPUT_BITS if marked.kind == "input" else min(plan.activation_bits, WIDEST)
        return (1 << bits) - 1

    def _qparams(
        self, rewriter: Rewriter, marked: Marked, plan: LayerPlan, y: Any, qmax: int
    ) -> Any:
        """Parameters of a tensor by its plan's mode, as a variable or constant."""
        if plan.mode == "static":
            tensor = self.record.tensor(marked.name)
            return constant(static_qparams(tensor, plan, qmax, shape_of(y)[0]))
        if marked.kind == "pool":
            pair = codes_behind(rewriter, rewriter.value(y).args[0])
            if pair is not None:
                return rewriter.emit(ops.pool_range(*pair, qmax=qmax))
        if marked.kind == "concat":
            fields = rewriter.value(rewriter.value(y).args[0]).fields
            pairs = [codes_behind(rewriter, f) for f in fields]
            if all(p is not None for p in pairs):
                return rewriter.emit(ops.merge_ranges([p[1] for p in pairs if p], qmax=qmax))
        if marked.kind == "multiply":
            exact = _product_range(rewriter, y, qmax)
            if exact is not None:
                return rewriter.emit(exact)
        if plan.mode == "predicted":
            predicted = self._predicted(rewriter, marked, plan, y, qmax)
            if predicted is not None:
                return predicted
        return rewriter.emit(ops.observe(y, qmax=qmax))

    def _predicted(
        self, rewriter: Rewriter, marked: Marked, plan: LayerPlan, y: Any, qmax: int
    ) -> Any:
        """Parameters from the surrogate, None where there is nothing to predict from."""
        plan = replace(plan, activation_bits=qmax.bit_length())
        if marked.kind in PAIRS:
            return self._pair_surrogate(rewriter, marked, plan, y)
        if marked.layer is None or marked.name not in self.inputs:
            return None
        pair = self.inputs[marked.name]
        residual = self.residuals.get(marked.name)
        residual_sums = None if residual is None else self._sums(rewriter, residual)
        return attach_surrogate(
            rewriter, marked.layer, self.record.tensor(marked.name), plan, pair,
            lambda: self._sums(rewriter, pair), residual, residual_sums,
            [*levels_of(plan)[:-1], qmax],
        )  # fmt: skip

    def _pair_surrogate(self, rewriter: Rewriter, marked: Marked, plan: LayerPlan, y: Any) -> Any:
        """Parameters of a sum or matrix product of two stored tensors, from the sums of both."""
        found = operator_behind(rewriter.value, y, marked.kind)
        pairs = [codes_behind(rewriter, a) for a in found[0].args] if found else [None]
        if any(p is None for p in pairs):
            return None
        sums = [self._sums(rewriter, p) for p in pairs if p is not None]
        return pair_surrogate(
            rewriter, marked, self.record.tensor(marked.name), plan, [p for p in pairs if p], sums
        )  # fmt: skip


def _product_range(rewriter: Rewriter, y: Any, qmax: int) -> Call | None:
    """The exact range of the product of two stored tensors that `y` is."""
    found = operator_behind(rewriter.value, y, "multiply")
    factors = None if found is None else operands(found[0])
    if found is None or factors is None:
        return None
    a, b = (codes_behind(rewriter, x) for x in factors)
    if a is None or b is None:
        return None
    return ops.product_range(*a, *b, qmax=qmax, activation=found[1])


def codes_behind(rewriter: Rewriter, x: Any) -> Pair | None:
    """Codes and parameters that `x` is dequantized from."""
    value = rewriter.value(x)
    return (value.args[0], value.args[1]) if is_call(value, "probq.dequantize") else None
