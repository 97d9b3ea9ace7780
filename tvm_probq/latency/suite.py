"""Networks to learn a machine from: layers of many kinds and sizes, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
CLASSES = 100
EPSILON = 1e-5


@dataclass
class _Graph:
    """An ONNX graph in the making; each method gives the name of its result."""

    seed: int
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """An initializer."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def random(self, *shape: int, fan_in: int = 0) -> str:
        """Random weights; those of products keep the variance."""
        scale = (fan_in or 1) ** -0.5
        return self.constant(self._rng.standard_normal(shape) * scale)

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution with bias and half padding."""
        fan_in = inputs // groups * kernel * kernel
        weight = self.random(outputs, inputs // groups, kernel, kernel, fan_in=fan_in)
        return self.node(
            "Conv", x, weight, self.random(outputs), kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups,
        )  # fmt: skip

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """A product with weights, and a bias."""
        product = self.node("MatMul", x, self.random(inputs, outputs, fan_in=inputs))
        return self.node("Add", product, self.random(outputs))

    def classifier(self, x: str, channels: int) -> str:
        """Mean over positions, then a dense layer."""
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.dense(pooled, channels, CLASSES)

    def model(self, shape: tuple[int, ...], output: str, dtype: int = TensorProto.FLOAT) -> Any:
        """The finished model."""
        graph = helper.make_graph(
            self.nodes, "suite", [helper.make_tensor_value_info("input", dtype, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.weights,
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        return onnx.shape_inference.infer_shapes(made)


def _residual(size: int, channels: tuple[int, ...], seed: int) -> Any:
    """Stem, then two convolutions around a residual in each stage."""
    g = _Graph(seed)
    x = g.node("Relu", g.conv("input", 3, channels[0], 3, 2))
    before = channels[0]
    for width in channels:
        y = g.node("Relu", g.conv(x, before, width, 3, 2))
        y = g.conv(y, width, width, 3)
        x = g.node("Relu", g.node("Add", y, g.conv(x, before, width, 1, 2)))
        x = g.node("Relu", g.conv(g.node("Relu", g.conv(x, width, width // 2)), width // 2, width))
        before = width
    return g.model((1, 3, size, size), g.classifier(x, before))


def _separable(size: int, channels: tuple[int, ...], seed: int) -> Any:
    """Depthwise and pointwise layers in turn, kernels of 3 to 7, clips at 6."""
    g = _Graph(seed)
    low, high = g.constant(0.0), g.constant(6.0)
    x, before = g.node("Relu", g.conv("input", 3, channels[0], 3, 2)), channels[0]
    for i, width in enumerate(channels):
        x = g.conv(x, before, before, 3 + 2 * (i % 3), 1 + i % 2, before)
        x = g.node("Clip", x, low, high)
        x = g.node("Clip", g.conv(x, before, width), low, high)
        before = width
    return g.model((1, 3, size, size), g.classifier(x, before))


def _gated(size: int, channels: tuple[int, ...], seed: int) -> Any:
    """Inverted residuals with squeeze-and-excitation and hard activations."""
    g = _Graph(seed)
    x, before = g.node("HardSwish", g.conv("input", 3, channels[0], 3, 2)), channels[0]
    for i, width in enumerate(channels):
        wide = 4 * before
        y = g.node("HardSwish", g.conv(x, before, wide))
        y = g.node("HardSwish", g.conv(y, wide, wide, 3 + 2 * (i % 2), 1 + i % 2, wide))
        gate = g.node("Relu", g.conv(g.node("GlobalAveragePool", y), wide, wide // 4))
        gate = g.node("HardSigmoid", g.conv(gate, wide // 4, wide), alpha=1 / 6, beta=0.5)
        y = g.conv(g.node("Mul", y, gate), wide, width)
        x = g.node("Add", y, x) if width == before and not i % 2 else y
        before = width
    return g.model((1, 3, size, size), g.classifier(x, before))


def _pyramid(size: int, channels: tuple[int, ...], seed: int) -> Any:
    """Pooling, concatenation, upsampling and addition of levels, as detectors have them."""
    g = _Graph(seed)
    x = g.node("LeakyRelu", g.conv("input", 3, channels[0], 3, 2), alpha=0.1)
    before, levels = channels[0], []
    for width in channels:
        pooled = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        branch = g.node("LeakyRelu", g.conv(x, before, width, 3, 2), alpha=0.1)
        x, before = g.node("Concat", pooled, branch, axis=1), before + width
        levels.append(g.conv(x, before, channels[0]))
    top = levels[-1]
    for level in levels[-2::-1]:
        scales = g.constant([1.0, 1.0, 2.0, 2.0])
        up = g.node("Resize", top, "", scales, mode="nearest")
        top = g.node("Add", up, level)
        top = g.node("Sigmoid", g.conv(top, channels[0], channels[0], 5, 1, channels[0]))
    return g.model((1, 3, size, size), g.conv(top, channels[0], 36, 3))


def _shuffled(size: int, channels: tuple[int, ...], seed: int) -> Any:
    """Halves of channels, worked on in turn and shuffled; no vector divides their number."""
    g = _Graph(seed)

    def separable(x: str, inputs: int, outputs: int, stride: int) -> str:
        y = g.node("LeakyRelu", g.conv(x, inputs, outputs), alpha=0.1)
        y = g.conv(y, outputs, outputs, 3, stride, outputs)
        return g.node("LeakyRelu", g.conv(y, outputs, outputs), alpha=0.1)

    x, before = g.node("LeakyRelu", g.conv("input", 3, channels[0], 3, 2), alpha=0.1), channels[0]
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for i, width in enumerate(channels):
        side = size >> 3 + i
        other = g.conv(g.conv(x, before, before, 3, 2, before), before, width)
        other = g.node("LeakyRelu", other, alpha=0.1)
        x = _shuffle(
            g, g.node("Concat", other, separable(x, before, width, 2), axis=1), width, side
        )
        halves = [
            g.node("Slice", x, *(g.constant([n], np.int64) for n in (start, start + width, 1)))
            for start in (0, width)
        ]
        joined = g.node("Concat", halves[0], separable(halves[1], width, width, 1), axis=1)
        x, before = _shuffle(g, joined, width, side), 2 * width
    return g.model((1, 3, size, size), g.classifier(x, before))


def _shuffle(g: _Graph, x: str, width: int, side: int) -> str:
    """Channels of two halves in turn."""
    split = g.node("Reshape", x, g.constant([1, 2, width, side, side], np.int64))
    turned = g.node("Transpose", split, perm=(0, 2, 1, 3, 4))
    return g.node("Reshape", turned, g.constant([1, 2 * width, side, side], np.int64))


def _decoder(tokens: int, width: int, heads: int, seed: int) -> Any:
    """Blocks of a language model: attention and a gated unit, normalized by root mean square."""
    g = _Graph(seed)
    x = g.node("Gather", g.random(256, width), "input")
    for _ in range(2):
        x = g.node("Add", x, _attention(g, _normalized(g, x, width), tokens, width, heads))
        y = _normalized(g, x, width)
        gate = g.dense(y, width, 3 * width)
        gate = g.node("Mul", gate, g.node("Sigmoid", gate))
        up = g.node("Mul", gate, g.dense(y, width, 3 * width))
        x = g.node("Add", x, g.dense(up, 3 * width, width))
    return g.model((1, tokens), g.dense(_normalized(g, x, width), width, 256), TensorProto.INT64)


def _normalized(g: _Graph, x: str, width: int) -> str:
    squares = g.node("ReduceMean", g.node("Mul", x, x), axes=[-1], keepdims=1)
    root = g.node("Sqrt", g.node("Add", squares, g.constant(EPSILON)))
    return g.node("Mul", g.node("Div", x, root), g.random(width))


def _attention(g: _Graph, x: str, tokens: int, width: int, heads: int) -> str:
    shape = g.constant([1, tokens, heads, width // heads], np.int64)

    def of_heads(order: tuple[int, ...]) -> str:
        return g.node("Transpose", g.node("Reshape", g.dense(x, width, width), shape), perm=order)

    query, key, value = of_heads((0, 2, 1, 3)), of_heads((0, 2, 3, 1)), of_heads((0, 2, 1, 3))
    scale = g.constant((width // heads) ** -0.5)
    scores = g.node("Mul", g.node("MatMul", query, key), scale)
    mask = g.constant(np.triu(np.full((tokens, tokens), -1e4), 1))
    scores = g.node("Softmax", g.node("Add", scores, mask), axis=-1)
    mixed = g.node("Transpose", g.node("MatMul", scores, value), perm=(0, 2, 1, 3))
    flat = g.node("Reshape", mixed, g.constant([1, tokens, width], np.int64))
    return g.dense(flat, width, width)


SUITE: Mapping[str, Callable[[], Any]] = {
    "residual_64": lambda: _residual(64, (24, 48, 96, 160), 1),
    "residual_160": lambda: _residual(160, (32, 64, 128, 320), 2),
    "separable_96": lambda: _separable(96, (16, 24, 48, 64, 120, 192), 3),
    "separable_224": lambda: _separable(224, (24, 40, 96, 160, 288, 512), 4),
    "gated_64": lambda: _gated(64, (16, 24, 24, 40, 48), 5),
    "gated_192": lambda: _gated(192, (16, 32, 32, 56, 96), 6),
    "pyramid_128": lambda: _pyramid(128, (24, 48, 72), 7),
    "pyramid_256": lambda: _pyramid(256, (32, 40, 96), 8),
    "shuffled_96": lambda: _shuffled(96, (18, 42, 90), 11),
    "shuffled_256": lambda: _shuffled(256, (26, 54, 110), 12),
    "decoder_64": lambda: _decoder(64, 96, 4, 9),
    "decoder_256": lambda: _decoder(256, 64, 8, 10),
}


def suite_model(name: str) -> bytes:
    """The ONNX file of one of `SUITE`, the same bytes each time."""
    return bytes(SUITE[name]().SerializeToString())
