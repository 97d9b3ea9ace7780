"""Reads a convolutional ONNX network as layers of TFLite: enough for the cards that are counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """One operator.

    Attributes
    ----------
    kind : {"conv", "depthwise", "add", "mean", "dense"}
        What it computes.
    inputs, output
        Names of tensors.
    weight
        OHWI; of a depthwise convolution 1HWC; of a dense layer OI.
    strides, pads
        Rows and columns; top, left, bottom, right.
    activation : {"", "relu", "relu6"}
        What follows.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    weight: Array = field(default_factory=lambda: np.empty(0, np.float32))
    bias: Array = field(default_factory=lambda: np.empty(0, np.float32))
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = ""


@dataclass(frozen=True)
class Network:
    """The layers in order; the input is an image `[1, height, width, 3]`."""

    image: tuple[int, ...]
    input: str
    layers: tuple[Layer, ...]


def read(path: Path) -> Network:
    """Read an ONNX file; an operator that is not known here is a ValueError."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users = Counter(name for node in graph.node for name in node.input)
    layers: dict[str, Layer] = {}
    slices: dict[str, str] = {}
    for node in graph.node:
        x, y, values = node.input[0] if node.input else "", node.output[0], attributes(node)
        if node.op_type == "Constant":
            constants[y] = numpy_helper.to_array(values["value"])
        elif node.op_type in ("Relu", "Clip", "Flatten"):
            _rename(layers, users, x, y, {"Relu": "relu", "Clip": "relu6"}.get(node.op_type, ""))
        elif node.op_type == "Slice":
            slices[y] = _halved(node, constants)
        elif node.op_type == "Pad":
            layers[y] = _shortcut(slices[x], y, constants[node.input[1]], layers)
        else:
            layers[y] = _layer(node, values, constants)
            if layers[y].kind == "conv" and x in layers and layers[x].kind == "mean":
                layers[y] = _dense(layers[y])
    _, channels, height, width = (d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)
    return Network((1, height, width, channels), graph.input[0].name, tuple(layers.values()))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _rename(layers: dict[str, Layer], users: Counter[str], x: str, y: str, kind: str) -> None:
    if users[x] != 1:
        raise ValueError(f"{x} is used twice: its activation cannot be fused")
    layer = layers.pop(x)
    layers[y] = replace(layer, output=y, activation=kind or layer.activation)


def _layer(node: onnx.NodeProto, values: dict[str, Any], constants: dict[str, Array]) -> Layer:
    x, y = node.input[0], node.output[0]
    if node.op_type == "Conv":
        weight, bias = (constants[name] for name in node.input[1:])
        depthwise = values["group"] > 1
        weight = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        strides, pads = tuple(values["strides"]), tuple(values["pads"])
        return Layer("depthwise" if depthwise else "conv", (x,), y, weight, bias, strides, pads)
    if node.op_type == "Gemm" and values["transB"]:
        return Layer("dense", (x,), y, constants[node.input[1]], constants[node.input[2]])
    if node.op_type == "Add":
        return Layer("add", tuple(node.input), y)
    if node.op_type == "ReduceMean" and list(values["axes"]) == [2, 3]:
        return Layer("mean", (x,), y)
    raise ValueError(f"{node.op_type} is not among the layers that are known here")


def _dense(layer: Layer) -> Layer:
    """A 1x1 convolution of one pixel, as what it is."""
    return replace(layer, kind="dense", weight=layer.weight.reshape(len(layer.weight), -1))


def _halved(node: onnx.NodeProto, constants: dict[str, Array]) -> str:
    """The input of a slice that takes every second row and column."""
    _, start, _, axes, steps = (constants.get(name) for name in node.input)
    facts = [None if item is None else item.tolist() for item in (start, axes, steps)]
    if facts != [[0, 0], [2, 3], [2, 2]]:
        raise ValueError(f"{node.name}: only slices [::2, ::2] of rows and columns are known")
    return str(node.input[0])


def _shortcut(x: str, y: str, pads: Array, layers: dict[str, Layer]) -> Layer:
    """ResNet's shortcut without weights, as a 1x1 convolution of stride 2 by the identity.

    XNNPACK takes no slice with steps; this is one operator in place of two, and exact.
    """
    before, after = int(pads[1]), int(pads[5])
    inputs = len(_bias_of(layers, x))
    weight = np.zeros((before + inputs + after, 1, 1, inputs), np.float32)
    weight[before + np.arange(inputs), 0, 0, np.arange(inputs)] = 1.0
    return Layer("conv", (x,), y, weight, np.zeros(len(weight), np.float32), (2, 2))


def _bias_of(layers: dict[str, Layer], x: str) -> Array:
    bias = layers[x].bias
    return bias if bias.size else _bias_of(layers, layers[x].inputs[0])
