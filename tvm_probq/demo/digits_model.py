"""The demo's network as an ONNX model, built node by node from trained weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]

OPSET = 17
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-5
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


class GraphBuilder:
    """Collects nodes and initializers; every method gives the name of its result."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.float32]) -> str:
        """Add an initializer, once."""
        if all(known.name != name for known in self.initializers):
            array = np.ascontiguousarray(value, np.float32)
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, name: str, inputs: list[str], **attributes: object) -> str:
        """Add a node with one output of its own name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv_norm(self, x: str, name: str, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution that keeps the image's size (but for its stride) and a BatchNorm."""
        weight = self.weights[f"{name}.weight"]
        side = weight.shape[2]
        y = self.node(
            "Conv",
            name,
            [x, self.constant(f"{name}.weight", weight)],
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )
        keys = [f"{name}_norm.{part}" for part in NORM_PARTS]
        parts = [self.constant(key, self.weights[key]) for key in keys]
        norm = f"{name}_norm"
        return self.node("BatchNormalization", norm, [y, *parts], epsilon=BATCH_NORM_EPSILON)

    def relu(self, x: str, name: str) -> str:
        """Add a ReLU."""
        return self.node("Relu", name, [x])

    def relu6(self, x: str, name: str) -> str:
        """Add a ReLU6, which ONNX writes as a Clip."""
        low = self.constant("relu6_low", np.array(0, np.float32))
        high = self.constant("relu6_high", np.array(6, np.float32))
        return self.node("Clip", name, [x, low, high])


def build_model(weights: Weights) -> onnx.ModelProto:
    """Build the network.

    Parameters
    ----------
    weights : mapping of str to ndarray of float32
        ``LAYER.weight`` of shape (out, in / groups, height, width) and ``LAYER_norm.*`` for the
        layers ``stem`` (1 to 16 channels), ``block1`` and ``block2`` (16 to 16, residual),
        ``depthwise`` (16, stride 2) and ``pointwise`` (16 to 32); ``classifier.weight`` of
        shape (10, 32) and ``classifier.bias``.

    Returns
    -------
    onnx.ModelProto
        Opset 17, checked; input ``image`` (batch, 1, 8, 8), output ``logits`` (batch, 10). The
        BatchNorm nodes are left in, so that importing the model exercises their folding.
    """
    graph = GraphBuilder(weights)
    stem = graph.relu(graph.conv_norm("image", "stem"), "stem_relu")
    inner = graph.relu(graph.conv_norm(stem, "block1"), "block1_relu")
    total = graph.node("Add", "block_add", [graph.conv_norm(inner, "block2"), stem])
    x = graph.relu(total, "block_relu")
    channels = weights["depthwise.weight"].shape[0]
    x = graph.relu6(graph.conv_norm(x, "depthwise", stride=2, groups=channels), "depthwise_relu6")
    x = graph.relu6(graph.conv_norm(x, "pointwise"), "pointwise_relu6")
    x = graph.node("Flatten", "flatten", [graph.node("GlobalAveragePool", "pool", [x])], axis=1)
    keys = ("classifier.weight", "classifier.bias")
    parameters = [graph.constant(key, weights[key]) for key in keys]
    graph.node("Gemm", "logits", [x, *parameters], transB=1)
    return _wrap(graph)


def _wrap(graph: GraphBuilder) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    proto = helper.make_graph(graph.nodes, "digits", [image], [logits], graph.initializers)
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tvm_probq.demo.train_digits",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
