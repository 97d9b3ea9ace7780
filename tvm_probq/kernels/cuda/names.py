"""Specifications as template arguments of the device code."""

from __future__ import annotations

import numpy as np

from tvm_probq.kernels.cuda.tiles import BlockTile
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.simulator.numerics import Activation

OUTPUTS = {"codes": "CODES", "float32": "FLOATS", "int32": "SUMS"}
CLASSES = {
    "none": "None", "hard_sigmoid": "HardSigmoid", "hard_swish": "HardSwish",
    "sigmoid": "Sigmoid", "silu": "Silu", "tanh": "Tanh", "gelu": "Gelu",
}  # fmt: skip


def template(name: str, *arguments: object) -> str:
    """``probq::name<arguments>``."""
    texts = (str(a).lower() if isinstance(a, bool) else str(a) for a in arguments)
    return f"probq::{name}<{', '.join(texts)}>"


def bits(value: float) -> int:
    """The bits of a float32, as int32."""
    return int(np.float32(value).view(np.int32))


def activation_name(activation: Activation) -> str:
    """The class of an activation."""
    if activation.kind == "clip":
        return template("Clip", bits(activation.low), bits(activation.high))
    if activation.kind == "leaky":
        return template("Leaky", bits(activation.slope))
    return f"probq::{CLASSES[activation.kind]}"


def shape_name(spec: LayerSpec) -> str:
    """``Shape<...>``."""
    inputs = (spec.batch, spec.height, spec.width, spec.in_channels)
    outputs = (spec.out_height, spec.out_width, spec.out_channels)
    windows = (*spec.kernel, *spec.strides, *spec.pads[:2], *spec.dilation)
    bits = (spec.weight_bits, spec.weight_group, spec.in_bits)
    return template("Shape", *inputs, *outputs, *windows, spec.groups, *bits)


def tail_name(spec: LayerSpec) -> str:
    """``Tail<...>``."""
    output, activation = f"probq::{OUTPUTS[spec.output]}", activation_name(spec.tail)
    flags = (spec.correction, spec.residual)
    stored = (spec.in_ranges, spec.out_ranges, spec.out_bits, spec.residual_bits)
    return template("Tail", output, activation, *flags, *stored)


def tile_name(tile: BlockTile, tensor: bool, fours: bool) -> str:
    """``Tile<...>``."""
    sizes = (tile.rows, tile.columns, tile.warp_rows, tile.warp_columns)
    return template("Tile", *sizes, tensor, fours)
