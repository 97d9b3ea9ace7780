"""Writes a network as a TFLite file, in float32 or statically quantized to 8 bits.

Quantized as TFLite's own converter does: weights signed and symmetric with a scale a channel,
activations signed with one scale and zero-point a tensor, biases of 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from .onnx_layers import Array, Layer, Network

OPERATORS = {  # built-in operator, its options, its version for int8
    "conv": ("CONV_2D", "Conv2DOptions", 3),
    "depthwise": ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 3),
    "dense": ("FULLY_CONNECTED", "FullyConnectedOptions", 4),
    "add": ("ADD", "AddOptions", 2),
    "mean": ("MEAN", "ReducerOptions", 2),
    "pad": ("PAD", "PadOptions", 2),
    "quantize": ("QUANTIZE", "QuantizeOptions", 1),
    "dequantize": ("DEQUANTIZE", "DequantizeOptions", 2),
}
ACTIVATIONS = {"": "NONE", "relu": "RELU", "relu6": "RELU6"}


def write(
    network: Network, schema: ModuleType, ranges: Mapping[str, tuple[float, float]] | None
) -> bytes:
    """The file's bytes.

    Parameters
    ----------
    network
        What to write.
    schema
        ``schema_py_generated`` of LiteRT.
    ranges
        Smallest and largest value of each tensor: the file is quantized, its input and output
        stay float32. None: everything is float32.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    model = _File(schema, ranges).model(network)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _File:
    """A model in the making."""

    def __init__(
        self, schema: ModuleType, ranges: Mapping[str, tuple[float, float]] | None
    ) -> None:
        self._schema, self._ranges = schema, ranges
        self._buffers: list[Any] = [schema.BufferT()]  # the first one is empty by convention
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._values: dict[str, tuple[int, tuple[int, ...]]] = {}  # tensor and shape by name

    def model(self, network: Network) -> Any:
        start = self._tensor("input", network.image, "FLOAT32")
        self._values[network.input] = (start, network.image)
        if self._ranges is not None:
            x = self._activation(network.input, network.image)
            self._operator("quantize", [start], x)
        for layer in network.layers:
            self._layer(layer)
        end, shape = self._values[network.layers[-1].output]
        if self._ranges is not None:
            codes, end = end, self._tensor("output", shape, "FLOAT32")
            self._operator("dequantize", [codes], end)
        return self._finished(start, end)

    def _finished(self, start: int, end: int) -> Any:
        graph = self._schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [start], [end]
        model = self._schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = []
        for kind in self._codes:
            name, _, version = OPERATORS[kind]
            code = self._schema.OperatorCodeT()
            code.builtinCode = getattr(self._schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version if self._ranges is not None else 1
            model.operatorCodes.append(code)
        return model

    def _layer(self, layer: Layer) -> None:
        inputs = [self._values[name] for name in layer.inputs]
        x, shape = inputs[0]
        if layer.kind == "add":
            y = self._activation(layer.output, shape)
            self._operator("add", [item for item, _ in inputs], y, self._fused(layer))
        elif layer.kind == "mean":
            axes = self._constant("axes", np.array([1, 2], np.int32))
            y = self._activation(layer.output, (shape[0], shape[3]))
            self._operator("mean", [x, axes], y, {"keepDims": False})
        else:
            options: dict[str, Any] = {}
            if layer.kind != "dense":
                x, shape, options = self._padded(layer, x, shape)
            if layer.kind == "depthwise":
                options["depthMultiplier"] = 1
            weights = self._weights(layer, layer.inputs[0])
            y = self._activation(layer.output, (*shape[:-1], len(layer.bias)))
            self._operator(layer.kind, [x, *weights], y, {**options, **self._fused(layer)})

    def _padded(
        self, layer: Layer, x: int, shape: tuple[int, ...]
    ) -> tuple[int, tuple[int, ...], dict[str, Any]]:
        """The input, the output's shape (channels are the input's) and options.

        TFLite knows no padding and one where the far side has the odd zero; others are a layer.
        """
        kernel, strides, pads = layer.weight.shape[1:3], layer.strides, layer.pads
        size = shape[1:3]
        ends = [pads[i] + pads[i + 2] for i in (0, 1)]
        out = [(size[i] + ends[i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
        same = [
            max((-(-size[i] // strides[i]) - 1) * strides[i] + kernel[i] - size[i], 0)
            for i in (0, 1)
        ]
        before = [total // 2 for total in same]
        mode = "VALID"
        if any(pads):
            if pads == (*before, same[0] - before[0], same[1] - before[1]):
                mode = "SAME"
            else:
                x = self._pad(layer, x, shape)
        options = {"padding": getattr(self._schema.Padding, mode)}
        options.update(strideH=strides[0], strideW=strides[1])
        options.update(dilationHFactor=1, dilationWFactor=1)
        return x, (shape[0], *out, shape[3]), options

    def _pad(self, layer: Layer, x: int, shape: tuple[int, ...]) -> int:
        top, left, bottom, right = layer.pads
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        padded = tuple(int(n + a + b) for n, (a, b) in zip(shape, amounts, strict=True))
        y = self._tensor(f"{layer.output}/padded", padded, self._dtype())
        self._tensors[y].quantization = self._tensors[x].quantization
        self._operator("pad", [x, self._constant("pads", amounts)], y)
        return y

    def _fused(self, layer: Layer) -> dict[str, Any]:
        kinds = self._schema.ActivationFunctionType
        return {"fusedActivationFunction": getattr(kinds, ACTIVATIONS[layer.activation])}

    def _weights(self, layer: Layer, x: str) -> list[int]:
        weight = layer.weight
        if self._ranges is None:
            bias = layer.bias.astype(np.float32)
            return [self._constant("weight", weight), self._constant("bias", bias)]
        axis = 3 if layer.kind == "depthwise" else 0
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(others), 1e-9).astype(np.float64) / 127
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        x_scale = _scale(*self._ranges[x])[0]
        # A channel of almost no weights: its bias has to fit into 32 bits.
        scale = np.maximum(scale, np.abs(layer.bias) / (x_scale * 2**30))
        sums = scale * x_scale
        codes = np.rint(weight / scale.reshape(shape)).astype(np.int8)
        bias = np.rint(layer.bias / sums).astype(np.int32)
        return [
            self._constant("weight", codes, self._parameters(scale, 0, axis)),
            self._constant("bias", bias, self._parameters(sums, 0)),
        ]

    def _activation(self, name: str, shape: tuple[int, ...]) -> int:
        tensor = self._tensor(name, shape, self._dtype())
        if self._ranges is not None:
            scale, zero = _scale(*self._ranges[name])
            self._tensors[tensor].quantization = self._parameters(np.array([scale]), zero)
        self._values[name] = (tensor, shape)
        return tensor

    def _dtype(self) -> str:
        return "FLOAT32" if self._ranges is None else "INT8"

    def _parameters(self, scale: Array, zero: int, axis: int = 0) -> Any:
        parameters = self._schema.QuantizationParametersT()
        parameters.scale = scale.astype(np.float32)
        parameters.zeroPoint = np.full(len(scale), zero, np.int64)
        parameters.quantizedDimension = axis
        return parameters

    def _constant(self, name: str, values: Array, parameters: Any = None) -> int:
        dtype = {"float32": "FLOAT32", "int32": "INT32", "int8": "INT8"}[str(values.dtype)]
        tensor = self._tensor(f"{name}_{len(self._tensors)}", values.shape, dtype)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._tensors[tensor].buffer = len(self._buffers)
        self._tensors[tensor].quantization = parameters
        self._buffers.append(buffer)
        return tensor

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape = name, np.array(shape, np.int32)
        tensor.type = getattr(self._schema.TensorType, dtype)
        tensor.buffer = 0
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(
        self, kind: str, inputs: list[int], output: int, options: Mapping[str, Any] | None = None
    ) -> None:
        if kind not in self._codes:
            self._codes.append(kind)
        name = OPERATORS[kind][1]
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._codes.index(kind)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
        operator.builtinOptions = getattr(self._schema, f"{name}T")()
        for key, value in (options or {}).items():
            setattr(operator.builtinOptions, key, value)
        self._operators.append(operator)


def _scale(low: float, high: float) -> tuple[float, int]:
    """Scale and zero-point of signed 8-bit codes; zero is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-9) / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))
