"""Give every integer layer one kernel: product, requantization and tail in a single PrimFunc."""

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import (
    constant,
    constant_value,
    ints,
    is_call,
    is_constant,
    shape_of,
)
from tvm_probq.ir.layers import PRODUCTS, Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.calls import IN_BITS, RESIDUAL
from tvm_probq.kernels.codes import stored_form
from tvm_probq.kernels.layer import layer_kernel, pack_weights
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.storage import bits_of_dtype
from tvm_probq.kernels.tile import Tile
from tvm_probq.quantization.accumulator import prove_accumulator
from tvm_probq.simulator.arithmetic import Array

OPAQUE = 8  # op_pattern kOpaque: fusion must leave a scheduled kernel alone
INT8_LIMIT = 128
TAILS = ("probq.requantize", "probq.dequantize_accumulator")
TILE = "probq.tile"  # attribute of a layer kernel: its loop sizes, where they were given


class Tiles(Protocol):
    """Loop sizes by layer: a dict will do."""

    def get(self, spec: LayerSpec, /) -> Tile | None:
        """The tile of a layer, None for the default one."""


class Values(Protocol):
    """Knows what variables are bound to, in a function as it is or as it is being built."""

    def value(self, expr: Any) -> Any:
        """The call behind a variable, or `expr` itself."""


@tvm.transform.module_pass(opt_level=0, name="probq.LowerLayers")
class LowerLayers:
    """Call a scheduled kernel, with packed weights, for every integer layer.

    Before::

        q1 = R.probq.pad(q, qp, pad_width=[...])
        acc = R.nn.conv2d(q1, w, out_dtype="int32")
        y = R.probq.requantize(acc, qp, y_qp, t, w_sums, bias, activation="clip(0.0,inf)")

    After::

        y = R.call_tir(cls.layer, (q, w_packed, t, w_sums, bias, qp, y_qp), out_ty=...)

    An accumulator that is also measured (dynamic mode) is stored by a kernel of its own.  What a
    kernel allocates, and the instruction it must contain, stand in its attributes
    ``probq.workspace_bytes``, ``probq.scratch_bytes`` and ``probq.instruction``; loop sizes that
    were given stand in ``probq.tile``.  Holds before: `InsertRequantize`.  Holds after: no product
    of codes remains.

    Parameters
    ----------
    target : tvm.target.Target
        Chooses the kernels.
    tiles : Tiles, optional
        Their loop sizes, such as a tuning database; a layer that it does not have, and every
        layer without it, gets the default ones.  The results are the same.
    """

    def __init__(self, target: tvm.target.Target, tiles: Tiles | None = None) -> None:
        self.target = target
        self.tiles: Tiles = {} if tiles is None else tiles

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        kernels: dict[LayerSpec, Kernel] = {}
        definitions = Definitions(mod["main"])
        fused, packed = _fused_products(definitions), _packed_tails(definitions)

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            tail = rewriter.value(new.args[0]) if is_call(new, "probq.pack_codes") else new
            if is_call(tail, *TAILS) and not (tail is new and old in packed):
                args = ops.AccumulatorArgs.from_call(tail)
                acc = rewriter.value(args.acc)
                if is_call(acc, *PRODUCTS):
                    return self._fused(rewriter, kernels, args, acc, new)
            if is_integer_product(new) and old not in fused:
                return self._stored(rewriter, kernels, new)
            return None

        return rewrite(mod, visit)

    def _fused(
        self, rewriter: Rewriter, kernels: dict[LayerSpec, Kernel], args: ops.AccumulatorArgs,
        acc: Call, call: Call,
    ) -> relax.Expr:  # fmt: skip
        x, weights = _operands(rewriter, acc)
        output = "float32" if args.y_qparams is None else "codes"
        spec = _spec(rewriter, acc, weights, output, args, is_call(call, "probq.pack_codes"))
        tensors = [args.weight_scale, args.weight_sum, args.bias, args.x_qparams]
        residual = None if args.residual is None else _stored(rewriter, args.residual)[0]
        optional = (args.correction, args.y_qparams, residual, args.residual_qparams)
        tensors += [t for t in optional if t is not None]
        return self._call(rewriter, kernels, spec, x, weights, tensors, call)

    def _stored(
        self, rewriter: Rewriter, kernels: dict[LayerSpec, Kernel], call: Call
    ) -> relax.Expr:
        """An accumulator with several readers, or none that fuses."""
        qparams = _input_qparams(rewriter, call)
        x, weights = _operands(rewriter, call)
        spec = _spec(rewriter, call, weights, "int32", None)
        return self._call(rewriter, kernels, spec, x, weights, [qparams], call)

    def _call(
        self, rewriter: Rewriter, kernels: dict[LayerSpec, Kernel], spec: LayerSpec, x: Any,
        weights: Array, tensors: list[Any], call: Call,
    ) -> relax.Expr:  # fmt: skip
        tile = self.tiles.get(spec)
        if spec not in kernels:
            kernels[spec] = layer_kernel(spec, self.target, tile)
        kernel = kernels[spec]
        attrs = {
            "op_pattern": OPAQUE,
            "probq.workspace_bytes": kernel.workspace_bytes,
            "probq.scratch_bytes": kernel.scratch_bytes,
            "probq.instruction": kernel.instruction,
            IN_BITS: spec.in_bits,
        }
        if tile is not None:
            attrs[TILE] = tile_text(tile)
        if spec.residual:
            attrs[RESIDUAL] = len(tensors)  # of the arguments, the last but one
        func = kernel.func.with_attrs(attrs)
        function = rewriter.builder_.add_func(func, "layer")
        packed = constant(pack_weights(spec, weights, self.target, tile))
        return relax.op.call_tir(function, [x, packed, *tensors], out_ty=call.ty)


def tile_text(tile: Tile) -> str:
    """A tile in a word or a few: its sizes, or that MetaSchedule made the schedule."""
    if tile.trace:
        return "metaschedule"
    return " ".join(f"{k}={v}" for k, v in asdict(tile).items() if k != "trace")


def layer_specs(mod: IRModule) -> list[LayerSpec]:
    """The layers that `LowerLayers` finds in an integer module, in graph order, with repetition."""
    definitions = Definitions(mod["main"])
    fused = _fused_products(definitions)
    packed = _packed_tails(definitions)
    specs = []
    for call in definitions.order:
        if is_call(call, *TAILS):
            args = ops.AccumulatorArgs.from_call(call)
            acc = definitions.value(args.acc)
            if acc in fused:
                output = "float32" if args.y_qparams is None else "codes"
                weights = _operands(definitions, acc)[1]
                specs.append(_spec(definitions, acc, weights, output, args, call in packed))
        elif is_integer_product(call) and call not in fused:
            specs.append(_spec(definitions, call, _operands(definitions, call)[1], "int32", None))
    return specs


def is_integer_product(call: Any) -> bool:
    """Whether `call` multiplies codes with constant integer weights."""
    return (
        is_call(call, *PRODUCTS)
        and str(call.ty.dtype) == "int32"
        and str(call.args[0].ty.dtype) in ("uint8", "int16")
        and is_constant(call.args[1])
    )


def _fused_products(definitions: Definitions) -> set[Any]:
    """Products whose one reader is a tail that their kernel takes in."""
    return {
        call
        for call in definitions.order
        if is_integer_product(call) and is_call(definitions.only_user(call), *TAILS)
    }


def _packed_tails(definitions: Definitions) -> set[Any]:
    """Tails whose kernel packs what they give."""
    return {
        definitions.value(call.args[0])
        for call in definitions.order
        if is_call(call, "probq.pack_codes")
    }


def _operands(values: Values, acc: Call) -> tuple[Any, Array]:
    """Codes as they are stored, before padding, and weights OHWI."""
    source = _stored(values, _unpadded(values, acc))[0]
    weights = constant_value(values.value(acc.args[1]))
    if is_call(acc, "matmul"):
        weights = np.ascontiguousarray(weights.T)[:, None, None, :]
    return source, weights


def _unpadded(values: Values, acc: Call) -> Any:
    """The codes that a product reads, before padding."""
    x = values.value(acc.args[0])
    return x.args[0] if is_call(x, "probq.pad") else acc.args[0]


def _stored(values: Values, codes: Any) -> tuple[Any, int]:
    """The tensor that codes are stored in, and the bits of a code there."""
    made = values.value(codes)
    if is_call(made, "probq.unpack_codes"):
        return made.args[0], HALF
    return codes, bits_of_dtype(str(codes.ty.dtype))


def _pads(values: Values, acc: Call) -> tuple[int, int, int, int]:
    x = values.value(acc.args[0])
    if not is_call(x, "probq.pad"):
        return (0, 0, 0, 0)
    width = ints(x.attrs["pad_width"])
    return width[2], width[4], width[3], width[5]


def _spec(
    values: Values, acc: Call, weights: Array, output: str, args: ops.AccumulatorArgs | None,
    packs: bool = False,
) -> LayerSpec:  # fmt: skip
    x = _unpadded(values, acc)
    shape, flat = shape_of(x), is_call(acc, "matmul")
    height, width = (1, 1) if flat else shape[1:3]
    a = acc.attrs
    strides, dilation = ((1, 1), (1, 1)) if flat else (ints(a.strides), ints(a.dilation))
    y_qparams = None if args is None else args.y_qparams
    x_qparams = _input_qparams(values, acc) if args is None else args.x_qparams
    groups = 1 if flat else int(a.groups)
    depthwise = 1 < groups == shape[-1] == weights.shape[0]
    weight_bits, weight_group = stored_form(weights, depthwise)
    return LayerSpec(
        batch=shape[0], height=height, width=width, in_channels=shape[-1],
        out_channels=weights.shape[0], kernel=weights.shape[1:3], strides=strides,  # type: ignore[arg-type]
        pads=_pads(values, acc), dilation=dilation, groups=groups,  # type: ignore[arg-type]
        weight_bits=weight_bits, weight_group=weight_group,
        activation="none" if args is None else args.activation, output=output,
        correction=args is not None and args.correction is not None,
        residual=args is not None and args.residual is not None,
        in_ranges=shape_of(x_qparams)[2],
        out_ranges=1 if y_qparams is None else shape_of(y_qparams)[2], flat=flat,
        small_weights=prove_accumulator(weights).pairs_fit,
        symmetric=int(weights.min(initial=0)) > -INT8_LIMIT,
        in_bits=_stored(values, x)[1],
        out_bits=HALF if packs else 8 if args is None else bits_of_dtype(args.dtype),
        residual_bits=_residual_bits(values, args),
    )  # fmt: skip


def _residual_bits(values: Values, args: ops.AccumulatorArgs | None) -> int:
    """Bits that a code of the residual is stored in."""
    return 8 if args is None or args.residual is None else _stored(values, args.residual)[1]


def _input_qparams(values: Values, acc: Call) -> Any:
    """Parameters of the codes an accumulator reads, from the padding or from those who read it."""
    x = values.value(acc.args[0])
    if is_call(x, "probq.pad"):
        return x.args[1]
    batch = shape_of(acc)[0]
    neutral = np.zeros((batch, 3, 1), np.float32)  # without padding the sums need no zero-point
    return constant(neutral)
