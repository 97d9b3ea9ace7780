"""Keep the parameters and codes of a model that is quantized already."""

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant, constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.ir.weights import is_coded, rearranged, weights_value
from tvm_probq.simulator.arithmetic import F32, Array

# What is added to codes of each type to make them unsigned, and subtracted from weights.
SHIFTS = {"uint8": 0, "int8": 128}
WEIGHT_ZERO = {"int8": 0, "uint8": 128}
QMAX = 255
IMAGE_RANK = 4
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
PRODUCTS = {"nn.conv2d": 0, "nn.conv1d": 0, "matmul": 1}  # and the axis of output channels


@tvm.transform.module_pass(opt_level=0, name="probq.KeepParameters")
class KeepParameters:
    """Read ``R.quantize`` and ``R.dequantize`` of an ONNX file as codes of ours.

    Before::

        q = R.quantize(x, R.const(0.02), R.const(-3, "int8"), out_dtype="int8")
        lv = R.dequantize(q, R.const(0.02), R.const(-3, "int8"))
        w = R.dequantize(w_codes, w_scale, w_zero, axis=0)
        lv1 = R.nn.conv2d(lv, w)

    After::

        q = R.probq.quantize(x, qp)  # scale 0.02, zero-point 125
        lv = R.probq.dequantize(q, qp)
        w = R.probq.dequantize_weight(w_codes, w_scale, axis=0, bits=8)
        lv1 = R.nn.conv2d(lv, w)

    Signed codes of activations and unsigned ones of weights are moved by 128.  Other constants,
    such as biases, become float32.  A tensor has one scale, or one for each channel where only
    depthwise layers read it; what is no such pair of 8 bits stays as it is.

    Holds before: nothing.  Holds after: codes of weights are read by products alone, with a scale
    for each output channel.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return rewrite(mod, _Keeper(Definitions(mod["main"])).visit)


class _Keeper:
    """Visits calls; remembers what was quantized, so that all its readers share the codes."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.stored: dict[Any, relax.Var] = {}

    def visit(self, rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        """Rewrite one call."""
        if is_call(new, "quantize"):
            return _constant_codes(rewriter, new)
        if is_call(new, "dequantize"):
            return self._dequantize(rewriter, old, new)
        if is_call(new, "permute_dims") and is_coded(value := rewriter.value(new.args[0])):
            transposed = _transposed(rewriter, value)
            if transposed is not None:
                return transposed
        return _with_usable_weights(rewriter, new)

    def _dequantize(self, rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        source = rewriter.value(new.args[0])
        if is_constant(source):
            return _weights(rewriter, new, constant_value(source))
        found = _pair(rewriter, source, new) if is_call(source, "quantize") else None
        if found is None or (found[0].size > 1 and not self._is_read_depthwise(old)):
            return None
        if new.args[0] not in self.stored:
            self.stored[new.args[0]] = _stored(rewriter, source, *found)
        return self.stored[new.args[0]]

    def _is_read_depthwise(self, dequantize: Call) -> bool:
        """Whether only depthwise layers read a tensor, so that each channel may have a scale."""
        readers = self.definitions.users.get(self.definitions.var_of[dequantize], [])
        return bool(readers) and all(_is_depthwise(reader, dequantize) for reader in readers)


def _is_depthwise(reader: Call, x: Call) -> bool:
    if not is_call(reader, "nn.conv2d") or str(reader.attrs.data_layout) != "NCHW":
        return False
    return int(reader.attrs.groups) == shape_of(x)[1] == shape_of(reader)[1] > 1


def _parameters(rewriter: Rewriter, call: Call) -> tuple[Array, Array] | None:
    """Scale and zero-point of a quantize or dequantize, None where they are computed."""
    values = [rewriter.value(arg) for arg in call.args[1:3]]
    if not all(map(is_constant, values)):
        return None
    scale, zero = map(constant_value, values)
    return scale, zero


def _pair(rewriter: Rewriter, quantize: Call, dequantize: Call) -> tuple[Array, Array] | None:
    """Scale and zero-point of a pair: the same constants of 8 bits, one or one a channel."""
    first, second = _parameters(rewriter, quantize), _parameters(rewriter, dequantize)
    x = quantize.args[0]
    if first is None or second is None or str(x.ty.dtype) != "float32" or len(shape_of(x)) < 2:
        return None
    if str(quantize.ty.dtype) not in SHIFTS or str(dequantize.ty.dtype) != "float32":
        return None
    if not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        return None
    axes = {int(call.attrs.axis) for call in (quantize, dequantize)}
    if first[0].size > 1 and (len(shape_of(x)) != IMAGE_RANK or axes != {1}):
        return None
    return first


def _stored(rewriter: Rewriter, quantize: Call, scale: Array, zero: Array) -> relax.Var:
    """What a pair gives, from codes under parameters ``[N, 3, 1]`` or ``[N, 3, C]``."""
    x, shifted = quantize.args[0], zero.astype(np.float32) + SHIFTS[str(quantize.ty.dtype)]
    rows = np.stack([scale.reshape(-1), shifted.reshape(-1), np.full(scale.size, QMAX)])
    qparams = constant(np.tile(rows.astype(np.float32), (shape_of(x)[0], 1, 1)))
    if scale.size > 1:
        x = rewriter.emit(relax.op.permute_dims(x, TO_LAST))
    codes = rewriter.emit(ops.quantize(x, qparams), name="q")
    real = rewriter.emit(ops.dequantize(codes, qparams))
    return rewriter.emit(relax.op.permute_dims(real, TO_FIRST)) if scale.size > 1 else real


def _constant_codes(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Codes of constant weights, as ONNX defines QuantizeLinear."""
    x, found, dtype = rewriter.value(call.args[0]), _parameters(rewriter, call), call.ty.dtype
    if not is_constant(x) or found is None or str(dtype) not in SHIFTS:
        return None
    scale, zero = (_along(value, call, constant_value(x).ndim) for value in found)
    limits = np.iinfo(str(dtype))
    steps = np.rint(constant_value(x) / scale) + zero.astype(np.float32)
    return constant(np.clip(steps, limits.min, limits.max).astype(str(dtype)))


def _along(value: Array, call: Call, rank: int) -> Array:
    """A scale or zero-point, one or along the axis of the call, shaped to broadcast."""
    if value.size == 1:
        return value.reshape(())
    axis = int(call.attrs.axis) % rank
    return value.reshape([-1 if at == axis else 1 for at in range(rank)])


def _weights(rewriter: Rewriter, call: Call, codes: Array) -> relax.Expr | None:
    """Symmetric weights of 8 bits stay codes, other constants become float32."""
    found = _parameters(rewriter, call)
    if found is None or str(call.ty.dtype) != "float32":
        return None
    scale, zero = found
    middle = WEIGHT_ZERO.get(str(codes.dtype))
    if codes.ndim < 2 or middle is None or (zero != middle).any():
        shifted = codes.astype(np.int64) - _along(zero, call, codes.ndim).astype(np.int64)
        return constant(shifted.astype(np.float32) * _along(scale, call, codes.ndim))
    signed = (codes.astype(np.int16) - middle).astype(np.int8)
    axis = 0 if scale.size == 1 else int(call.attrs.axis) % codes.ndim
    scales = np.broadcast_to(scale.reshape(-1), (codes.shape[axis],))
    return _codes(signed, scales.astype(np.float32), axis)


def _codes(codes: Array, scale: F32, axis: int) -> Call:
    return ops.dequantize_weight(constant(codes), constant(scale), axis=axis, bits=8)


def _transposed(rewriter: Rewriter, weights: Call) -> relax.Expr | None:
    """The transposed matrix of a fully connected layer."""
    if len(shape_of(weights)) != 2:
        return None
    axis = 1 - int(weights.attrs["axis"])
    return rearranged(rewriter, weights, lambda codes: np.ascontiguousarray(codes.T), axis)


def _with_usable_weights(rewriter: Rewriter, call: Call) -> relax.Expr | None:
    """Codes stay where a product reads them with a scale for each output channel."""
    args = [_real(rewriter, arg) for arg in call.args]
    name = next((name for name in PRODUCTS if is_call(call, name)), None)
    if name is not None and is_coded(rewriter.value(call.args[1])):
        kept = _scaled_along(rewriter, call.args[1], PRODUCTS[name])
        args[1] = args[1] if kept is None else kept
    if all(a.same_as(b) for a, b in zip(args, call.args, strict=True)):
        return None
    return Call(call.op, args, call.attrs, call.ty_args)


def _scaled_along(rewriter: Rewriter, weights: Any, axis: int) -> relax.Expr | None:
    """Weights with a scale for each output channel, None if theirs differ along another axis."""
    value = rewriter.value(weights)
    codes, scale = (constant_value(arg) for arg in value.args)
    if axis and codes.ndim != 2:
        return None
    if int(value.attrs["axis"]) == axis:
        return weights
    if (scale != scale[0]).any():
        return None
    again = _codes(codes, np.full(codes.shape[axis], scale[0], np.float32), axis)
    return rewriter.emit(again, name="weights")


def _real(rewriter: Rewriter, arg: Any) -> Any:
    """A constant where `arg` is dequantized from codes."""
    if isinstance(arg, relax.Tuple):
        fields = [_real(rewriter, field) for field in arg.fields]
        same = all(a.same_as(b) for a, b in zip(fields, arg.fields, strict=True))
        return arg if same else relax.Tuple(fields)
    value = rewriter.value(arg)
    return constant(weights_value(value)) if is_coded(value) else arg
