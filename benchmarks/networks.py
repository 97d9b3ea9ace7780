"""The networks of the latency tables as ONNX files, with random weights: enough for latency.

    python benchmarks/networks.py FOLDER

writes ``resnet50.onnx`` (version 1.5, stride in the 3x3 convolution), ``mobilenet_v2.onnx`` and
``mobilenet_v3_small.onnx`` as their papers give them (arXiv 1512.03385, 1801.04381, 1905.02244),
224 x 224, without BatchNorm, whose folding costs nothing at run time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
SIZE = 224
CLASSES = 1000

# Expansion, output channels, repetitions, stride of the first.
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
# Kernel, expanded channels, output channels, squeeze-excite, hard-swish, stride.
MOBILENET_V3_SMALL = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip


class Network:
    """An ONNX graph in the making; each method adds a node and gives its result's name."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self.channels = {"image": 3}

    def node(self, kind: str, *inputs: str, channels: int = 0, **attributes: object) -> str:
        """Any node with one output of as many channels as its first input, or of `channels`."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.channels[name] = channels or self.channels.get(inputs[0], 0)
        return name

    def constant(self, values: object, dtype: type = np.float32) -> str:
        """An initializer."""
        name = f"constant_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def conv(
        self, x: str, outputs: int, side: int, stride: int = 1, groups: int = 1, act: str = ""
    ) -> str:
        """A convolution with bias, weights of variance 2 / inputs, and an activation."""
        inputs = self.channels[x] // groups
        scale = np.sqrt(2.0 / (inputs * side * side))
        weight = self._rng.normal(size=(outputs, inputs, side, side)) * scale
        bias = self._rng.normal(size=outputs) * 0.05
        y = self.node(
            "Conv", x, self.constant(weight), self.constant(bias), channels=outputs,
            kernel_shape=[side, side], pads=[side // 2] * 4, strides=[stride, stride], group=groups,
        )  # fmt: skip
        return self.activation(y, act)

    def activation(self, x: str, kind: str) -> str:
        """``relu``, ``relu6``, ``hswish``, ``hsigmoid`` or none."""
        if kind == "relu6":
            return self.node("Clip", x, self.constant(0.0), self.constant(6.0))
        if kind == "hsigmoid":
            return self.node("HardSigmoid", x, alpha=1.0 / 6.0, beta=0.5)
        kinds = {"relu": "Relu", "hswish": "HardSwish"}
        return self.node(kinds[kind], x) if kind else x

    def depthwise(self, x: str, side: int, stride: int, act: str) -> str:
        """A depthwise convolution."""
        channels = self.channels[x]
        return self.conv(x, channels, side, stride, groups=channels, act=act)

    def dense(self, x: str, outputs: int) -> str:
        """A fully connected layer."""
        inputs = self.channels[x]
        weight = self._rng.normal(size=(outputs, inputs)) * np.sqrt(2.0 / inputs)
        bias = self._rng.normal(size=outputs) * 0.05
        return self.node(
            "Gemm", x, self.constant(weight), self.constant(bias), channels=outputs, transB=1
        )

    def pooled(self, x: str) -> str:
        """Global average pooling to ``[N, C]``."""
        return self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)

    def squeeze_excite(self, x: str) -> str:
        """Channels scaled by what their means give."""
        inner = _divisible(self.channels[x] / 4)
        gate = self.conv(self.node("GlobalAveragePool", x), inner, 1, act="relu")
        return self.node("Mul", x, self.conv(gate, self.channels[x], 1, act="hsigmoid"))

    def model(self, name: str, output: str) -> onnx.ModelProto:
        """The checked model; input ``image`` (batch, 3, 224, 224), output ``logits``."""
        self._nodes.append(helper.make_node("Identity", [output], ["logits"], name="logits"))
        image, logits = ["batch", 3, SIZE, SIZE], ["batch", CLASSES]
        graph = helper.make_graph(
            self._nodes, name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)],
            self._weights,
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def resnet50() -> onnx.ModelProto:
    """ResNet-50 v1.5."""
    net = Network()
    x = net.conv("image", 64, 7, 2, act="relu")
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.conv(net.conv(x, width, 1, act="relu"), width, 3, stride, act="relu")
            y = net.conv(y, 4 * width, 1)
            if not block:
                x = net.conv(x, 4 * width, 1, stride)
            x = net.node("Relu", net.node("Add", y, x))
    return net.model("resnet50", net.dense(net.pooled(x), CLASSES))


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 1.0."""
    net = Network()
    x = net.conv("image", 32, 3, 2, act="relu6")
    for expansion, outputs, repetitions, first_stride in MOBILENET_V2:
        for i in range(repetitions):
            stride, inputs = (1 if i else first_stride), net.channels[x]
            y = net.conv(x, expansion * inputs, 1, act="relu6") if expansion > 1 else x
            y = net.conv(net.depthwise(y, 3, stride, "relu6"), outputs, 1)
            x = net.node("Add", y, x) if stride == 1 and inputs == outputs else y
    x = net.conv(x, 1280, 1, act="relu6")
    return net.model("mobilenet_v2", net.dense(net.pooled(x), CLASSES))


def mobilenet_v3_small() -> onnx.ModelProto:
    """MobileNetV3-small 1.0."""
    net = Network()
    x = net.conv("image", 16, 3, 2, act="hswish")
    for side, expanded, outputs, squeezes, swishes, stride in MOBILENET_V3_SMALL:
        act, inputs = ("hswish" if swishes else "relu"), net.channels[x]
        y = net.conv(x, expanded, 1, act=act) if expanded != inputs else x
        y = net.depthwise(y, side, stride, act)
        y = net.conv(net.squeeze_excite(y) if squeezes else y, outputs, 1)
        x = net.node("Add", y, x) if stride == 1 and inputs == outputs else y
    x = net.pooled(net.conv(x, 576, 1, act="hswish"))
    x = net.activation(net.dense(x, 1024), "hswish")
    return net.model("mobilenet_v3_small", net.dense(x, CLASSES))


def _divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of `by`, at most a tenth smaller."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for make in (resnet50, mobilenet_v2, mobilenet_v3_small):
        path = folder / f"{make.__name__}.onnx"
        onnx.save(make(), path)
        print(path)


if __name__ == "__main__":
    main()
