"""The QuantizeLinear and DequantizeLinear nodes of an ONNX graph, and the graph without them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_probq.simulator.arithmetic import Array

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

# The newest opset's nodes also do all that older ones do.
EVALUATED_OPSET = onnx.defs.onnx_opset_version()


class Pairs:
    """Where a graph quantizes and dequantizes.

    Parameters
    ----------
    proto : onnx.ModelProto
        The checked model.

    Attributes
    ----------
    activations : list of (NodeProto, NodeProto)
        Nodes that quantize a tensor and those that dequantize it again.
    constants : list of NodeProto
        Nodes that dequantize constants, which may be quantized in the graph.
    """

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.tensors = {t.name: t for t in proto.graph.initializer}
        self.maker: dict[str, Any] = {}
        for node in proto.graph.node:
            self.maker |= dict.fromkeys(node.output, node)
            values = [a.t for a in node.attribute if a.name == "value"]
            if node.op_type == "Constant" and values:
                self.tensors[node.output[0]] = values[0]
        nodes = [n for n in proto.graph.node if n.op_type == DEQUANTIZE]
        self.constants = [n for n in nodes if self._is_constant(n)]
        pairs = [(self.quantizer(n), n) for n in nodes if not self._is_constant(n)]
        self.activations = [(q, dq) for q, dq in pairs if q is not None]

    def quantizer(self, dequantize: Any) -> Any:
        """The node that quantizes what `dequantize` reads, None without one."""
        node = self.maker.get(dequantize.input[0])
        return node if node is not None and node.op_type == QUANTIZE else None

    def array(self, node: Any, index: int) -> Array | None:
        """A constant input of a node, None where it is computed or left out."""
        name = node.input[index] if len(node.input) > index else ""
        return numpy_helper.to_array(self.tensors[name]) if name in self.tensors else None

    def code_type(self, dequantize: Any) -> str:
        """Type of the codes that a node reads, such as ``int8``."""
        names = [*dequantize.input[2:3], dequantize.input[0]]
        quantize = self.quantizer(dequantize)
        kind = TensorProto.UINT8
        if quantize is not None:
            names += quantize.input[2:3]
            kind = integers(quantize).get("output_dtype") or kind
        kinds = [self.tensors[name].data_type for name in names if name in self.tensors]
        return str(TensorProto.DataType.Name(kinds[0] if kinds else kind)).lower()

    def dims(self, name: str) -> list[int]:
        """Shape of a constant, which may be quantized; empty where it is computed."""
        while name not in self.tensors:
            node = self.maker.get(name)
            if node is None or node.op_type not in (QUANTIZE, DEQUANTIZE):
                return []
            name = node.input[0]
        return list(self.tensors[name].dims)

    def readers(self, node: Any) -> Iterator[Any]:
        """Nodes that read what `node` gives."""
        return (n for n in self.proto.graph.node if node.output[0] in n.input)

    def strip(self) -> None:
        """Take the pairs away: constants become float32, tensors are read as they were."""
        graph = self.proto.graph
        outputs = {value.name for value in graph.output}
        floats = {node.output[0]: self._value(node) for node in self.constants}
        source = {dq.output[0]: q.input[0] for q, dq in self.activations}
        nodes = [n for n in graph.node if n.output[0] not in {*floats, *source}]
        nodes += [  # an output keeps its name
            helper.make_node("Identity", [source[name]], [name]) for name in outputs & set(source)
        ]
        for node in nodes:
            for index, name in enumerate(node.input):
                while name in source:  # pairs one behind the other
                    name = source[name]
                node.input[index] = name
        read = {name for node in nodes for name in node.input} | outputs
        nodes = [n for n in nodes if n.op_type != QUANTIZE or n.output[0] in read]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in floats.items())

    def _is_constant(self, node: Any) -> bool:
        """Whether a node reads nothing that is computed, but for quantized constants."""
        quantize = self.quantizer(node)
        known = node.input[0] in self.tensors or (
            quantize is not None and self._is_constant(quantize)
        )
        return known and all(name in self.tensors for name in node.input[1:] if name)

    def _value(self, node: Any) -> Array:
        """What a node gives whose inputs are constant."""
        known = {name: self.tensors[name] for name in node.input if name in self.tensors}
        values = {name: numpy_helper.to_array(tensor) for name, tensor in known.items()}
        if node.input[0] not in values:
            values[node.input[0]] = self._value(self.quantizer(node))
        single = onnx.NodeProto()
        single.CopyFrom(node)
        single.domain = ""  # that of some exporters means the same
        forms = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in values]
        result = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
        graph = helper.make_graph([single], "value", forms, [result])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", EVALUATED_OPSET)])
        (value,) = ReferenceEvaluator(model).run(None, values)
        return np.asarray(value)


def integers(node: Any) -> dict[str, int]:
    """Integer attributes of a node, 0 for others."""
    return {a.name: int(a.i) for a in node.attribute}
