"""The float model as a graph of TVM's own kernels, weights packed for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import constant, is_call, is_constant, shape_of
from tvm_probq.ir.layers import Definitions, Geometry, product_geometry
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.ops.activation import parse_activation

PRODUCT = "product"  # name of the block with the sums
FUSIBLE = 4  # op_pattern kOutEWiseFusable: what follows elementwise joins the kernel
LANES = (16, 8, 4, 2)
COLUMNS, CHANNELS, VECTOR = "bench.columns", "bench.channels", "bench.lanes"

Emit = Callable[..., Any]


@dataclass(frozen=True)
class Registers:
    """The vector registers of a processor.

    Attributes
    ----------
    lanes : tuple of int
        Floats of a vector, the widest first.
    accumulators : int
        Vectors of sums at once: together below 1024 bytes, or TVM puts them on the heap.
    """

    lanes: tuple[int, ...]
    accumulators: int


WIDE = Registers(LANES, 14)
NEON = Registers((4, 2), 24)


@dataclass(frozen=True)
class Blocking:
    """The register tile of a product.

    Attributes
    ----------
    columns, channels : int
        Output positions and output channels whose sums are kept at once.
    lanes : int
        Channels of one vector.
    """

    columns: int
    channels: int
    lanes: int

    @staticmethod
    def of(columns: int, channels: int, registers: Registers = WIDE) -> Blocking:
        """Give the tile with the least loads for its multiply-adds."""
        most = registers.accumulators
        lanes = next((n for n in registers.lanes if channels % n == 0), 1)
        tiles = [
            (wide, blocks)
            for wide in range(1, most + 1)
            for blocks in range(1, most // wide + 1)
            if columns % wide == 0 and (channels // lanes) % blocks == 0
        ]
        wide, blocks = min(tiles, key=lambda t: ((t[0] + t[1]) / (t[0] * t[1]), t))
        return Blocking(wide, blocks * lanes, lanes)

    @property
    def annotations(self) -> dict[str, int]:
        """What the schedule reads from the block."""
        return {COLUMNS: self.columns, CHANNELS: self.channels, VECTOR: self.lanes}


def float_kernels(mod: IRModule, registers: Registers = WIDE) -> IRModule:
    """Give the canonical float module with packed products, legalized and fused."""
    mod = rewrite(mod, _visit(Definitions(mod["main"]), registers))
    passes = [
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ]
    return tvm.transform.Sequential(passes)(mod)


def _visit(
    definitions: Definitions, registers: Registers
) -> Callable[[Rewriter, Call, Call], relax.Expr | None]:
    def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
        if is_call(new, "probq.layer"):
            return new.args[0]
        if is_call(new, "probq.activation"):
            return _activation(rewriter.emit, new.args[0], str(new.attrs["kind"]))
        if _is_product(new):
            return _product(rewriter, definitions, old, new, registers)
        return None

    return visit


def _is_product(call: Call) -> bool:
    if is_call(call, "matmul"):
        return is_constant(call.args[1]) and all(len(shape_of(a)) == 2 for a in call.args)
    if not is_call(call, "nn.conv2d") or not is_constant(call.args[1]):
        return False
    return (str(call.attrs.data_layout), str(call.attrs.kernel_layout)) == ("NHWC", "OHWI")


def _activation(emit: Emit, x: Any, kind: str) -> Any:
    if kind.startswith("clip("):
        ends = parse_activation(kind)
        if math.isfinite(ends.low):
            x = relax.op.maximum(x, relax.const(ends.low, "float32"))
        if math.isfinite(ends.high):
            x = relax.op.minimum(emit(x), relax.const(ends.high, "float32"))
        return x
    if kind.startswith("leaky("):
        return relax.op.nn.leakyrelu(x, parse_activation(kind).slope)
    gate = emit(relax.op.multiply(x, relax.const(1 / 6, "float32")))
    gate = emit(relax.op.add(gate, relax.const(0.5, "float32")))
    gate = relax.op.clip(gate, 0.0, 1.0)
    return gate if kind == "hard_sigmoid" else relax.op.multiply(x, emit(gate))


def _product(
    rewriter: Rewriter, definitions: Definitions, old: Call, new: Call, registers: Registers
) -> Any:
    geometry, weights = product_geometry(definitions, old)
    flat = is_call(new, "matmul")
    columns = geometry.y_shape[0] if flat else geometry.y_shape[2]
    per_group = geometry.y_shape[-1] // (1 if geometry.depthwise else geometry.groups)
    blocking = Blocking.of(columns, per_group, registers)
    packed = constant(_packed(geometry, weights, blocking))
    compute = _dense if flat else _depthwise if geometry.depthwise else _conv
    return rewriter.builder_.call_te(
        lambda x, w: compute(x, w, geometry, blocking), new.args[0], packed,
        primfunc_name_hint=PRODUCT, primfunc_attrs={"op_pattern": FUSIBLE},
    )  # fmt: skip


def _packed(geometry: Geometry, weights: Any, blocking: Blocking) -> Any:
    """Weights OHWI as ``[O / channels, KH, KW, I, channels]``; depthwise ``[KH, KW, C]``."""
    if geometry.depthwise:
        return np.ascontiguousarray(weights[..., 0].transpose(1, 2, 0))
    split = weights.reshape(-1, blocking.channels, *weights.shape[1:])
    return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1))


def _dense(x: te.Tensor, w: te.Tensor, geometry: Geometry, blocking: Blocking) -> te.Tensor:
    k, wide = te.reduce_axis((0, geometry.x_shape[-1]), "k"), blocking.channels

    def product(n: Any, o: Any) -> Any:
        return te.sum(x[n, k] * w[o // wide, 0, 0, k, o % wide], k)

    return te.compute(geometry.y_shape, product, name=PRODUCT, attrs=blocking.annotations)


def _conv(x: te.Tensor, w: te.Tensor, geometry: Geometry, blocking: Blocking) -> te.Tensor:
    inputs = geometry.x_shape[-1] // geometry.groups
    outputs, wide = geometry.y_shape[-1] // geometry.groups, blocking.channels
    source, at = _padded(x, geometry)
    kh, kw = (te.reduce_axis((0, n), name) for n, name in zip(geometry.kernel, "yx", strict=True))
    k = te.reduce_axis((0, inputs), "k")

    def product(n: Any, h: Any, v: Any, o: Any) -> Any:
        channel = k if geometry.groups == 1 else o // outputs * inputs + k
        row, column = at(h, v, kh, kw)
        return te.sum(
            source[n, row, column, channel] * w[o // wide, kh, kw, k, o % wide], [kh, kw, k]
        )

    return te.compute(geometry.y_shape, product, name=PRODUCT, attrs=blocking.annotations)


def _depthwise(x: te.Tensor, w: te.Tensor, geometry: Geometry, blocking: Blocking) -> te.Tensor:
    source, at = _padded(x, geometry)
    kh, kw = (te.reduce_axis((0, n), name) for n, name in zip(geometry.kernel, "yx", strict=True))

    def product(n: Any, h: Any, v: Any, c: Any) -> Any:
        row, column = at(h, v, kh, kw)
        return te.sum(source[n, row, column, c] * w[kh, kw, c], [kh, kw])

    return te.compute(geometry.y_shape, product, name=PRODUCT, attrs=blocking.annotations)


def _padded(x: te.Tensor, g: Geometry) -> tuple[te.Tensor, Callable[..., tuple[Any, Any]]]:
    """The input with zeros around it, and where an output position's tap lies in it."""

    def at(h: Any, v: Any, kh: Any, kw: Any) -> tuple[Any, Any]:
        return h * g.strides[0] + kh * g.dilation[0], v * g.strides[1] + kw * g.dilation[1]

    if not any(g.pads):
        return x, at
    (n, height, width, channels), (top, left, bottom, right) = g.x_shape, g.pads

    def value(b: Any, h: Any, v: Any, c: Any) -> Any:
        inside = [h >= top, h < height + top, v >= left, v < width + left]
        return tirx.if_then_else(
            tirx.all(*inside), x[b, h - top, v - left, c], tirx.const(0.0, "float32")
        )

    shape = (n, height + top + bottom, width + left + right, channels)
    return te.compute(shape, value, name="padded"), at
