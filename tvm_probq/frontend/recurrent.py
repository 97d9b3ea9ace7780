"""Write LSTM, GRU and RNN nodes out as steps, which TVM can import."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tvm_probq.errors import UnsupportedError
from tvm_probq.simulator.arithmetic import F32, Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
REFUSED = ("clip", "input_forget", "activation_alpha", "activation_beta")
OLDEST_OPSET = 10  # slices with their ends as inputs


def unroll_recurrent(proto: Any, inputs: dict[str, tuple[int, ...]], path: Path) -> Any:
    """The model without recurrent nodes; itself if it has none.

    What a step reads of the sequence is one product over all positions, which can be done in
    integers; the product with the state before has weights of rank 3, which keeps it float.

    Parameters
    ----------
    proto : onnx.ModelProto
        A checked model.
    inputs : dict of str to tuple of int
        Fixed shapes of its inputs.
    path : Path
        Of the file, for messages.

    Raises
    ------
    UnsupportedError
        For peepholes, lengths of sequences, other activations than the standard ones, clipping,
        weights that are no constants, or an opset before 10.
    """
    if not any(node.op_type in GATES for node in proto.graph.node):
        return proto
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"the model has recurrent layers and opset {opset}", where=str(path),
            why=f"opsets from {OLDEST_OPSET} on can be written out as steps",
            fix="convert it with onnx.version_converter",
        )  # fmt: skip
    changed = onnx.ModelProto.FromString(proto.SerializeToString())
    shapes, constants = _shapes(changed, inputs), _constants(changed)
    nodes: list[Any] = []
    for node in changed.graph.node:
        if node.op_type in GATES:
            written = _Written(node, constants, path)
            _unroll(written, shapes.get(node.input[0], ()))
            nodes += written.nodes
            changed.graph.initializer.extend(written.weights)
        else:
            nodes.append(node)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _shapes(proto: Any, inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, as far as ONNX infers them from those of the inputs."""
    fixed = onnx.ModelProto.FromString(proto.SerializeToString())
    for value in fixed.graph.input:
        for dim, extent in zip(
            value.type.tensor_type.shape.dim, inputs.get(value.name, ()), strict=False
        ):
            dim.dim_value = extent
    del fixed.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    return {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*inferred.value_info, *inferred.input, *inferred.output)
    }


def _constants(proto: Any) -> dict[str, Array]:
    """Values of initializers and of ``Constant`` nodes."""
    values = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for tensor in (a.t for a in node.attribute if a.name == "value"):
                values[node.output[0]] = numpy_helper.to_array(tensor)
    return values


@dataclass
class _Written:
    """A recurrent node, and the nodes and weights that are written in its place."""

    node: Any
    constants: dict[str, Array]
    path: Path
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.attributes = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        self.kind = str(self.node.op_type)
        self.name = self.node.name or next(name for name in self.node.output if name)
        self.batch_first = bool(self.attributes.get("layout", 0))
        self.directions = DIRECTIONS[self.attributes.get("direction", b"forward").decode()]
        self._check()

    def _check(self) -> None:
        given = [a.decode() for a in self.attributes.get("activations", [])]
        standard = ACTIVATIONS[self.kind] * len(self.directions)
        found = [name for name in REFUSED if self.attributes.get(name)]
        if given and [a.lower() for a in given] != [a.lower() for a in standard]:
            found.append(f"activations {', '.join(given)}")
        if self.operand(4):
            found.append("lengths of sequences")
        if self.operand(7):
            found.append("peepholes")
        if found:
            raise self.refused(f"it has {', '.join(found)}")

    def refused(self, why: str) -> UnsupportedError:
        """The error that says why the node cannot be imported."""
        return UnsupportedError(
            f"the recurrent layer {self.name!r} cannot be imported", where=str(self.path),
            why=why, fix="export a plain LSTM, GRU or RNN with constant weights",
        )  # fmt: skip

    def operand(self, index: int) -> str:
        """Name of an input, empty without it."""
        return str(self.node.input[index]) if index < len(self.node.input) else ""

    def value(self, index: int) -> F32 | None:
        """An input that must be constant, None without it."""
        name = self.operand(index)
        if name and name not in self.constants:
            raise self.refused(f"its input {name!r} is no constant")
        return self.constants[name].astype(np.float32) if name else None

    def constant(self, value: Any) -> str:
        """A new initializer; lists of whole numbers are int64."""
        array = np.asarray(value)
        name = f"{self.name}_constant_{len(self.weights)}"
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, kind), name))
        return name

    def __call__(self, op: str, *operands: Any, output: str = "", **attributes: Any) -> str:
        """Append a node; its output's name."""
        output = output or f"{self.name}_{op}_{len(self.nodes)}"
        inputs = [o if isinstance(o, str) else self.constant(o) for o in operands]
        name = self.name if op == "MatMul" else ""
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def cut(self, x: str, axis: int, start: int, end: int) -> str:
        """A slice."""
        return self("Slice", x, [start], [end], [axis])


def _unroll(net: _Written, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or not all(shape):
        raise net.refused(f"its input has the unknown shape {shape}")
    length = shape[1 if net.batch_first else 0]
    x = net.operand(0) if net.batch_first else net("Transpose", net.operand(0), perm=[1, 0, 2])
    runs = [_direction(net, x, length, at, way) for at, way in enumerate(net.directions)]
    _outputs(net, runs, length)


def _direction(
    net: _Written, x: str, length: int, at: int, way: int
) -> tuple[list[str], list[str]]:
    """States ``[N, 1, H]`` after each step, in the order of time, and the states at the end."""
    weights, again, biases = (net.value(i) for i in (1, 2, 3))
    if weights is None or again is None:
        raise net.refused("it has no weights")
    hidden, gates = again.shape[2], GATES[net.kind]
    bias = np.zeros(2 * gates * hidden, np.float32) if biases is None else biases[at]
    of_x, of_state = bias[: gates * hidden].copy(), bias[gates * hidden :].copy()
    linear_before = net.kind == "GRU" and bool(net.attributes.get("linear_before_reset", 0))
    joined = 2 * hidden if linear_before else gates * hidden
    of_x[:joined] += of_state[:joined]
    every = net("Add", net("MatMul", x, weights[at].T), of_x)
    cell = Cell(net, hidden, again[at].T, of_state[joined:] if linear_before else None)
    step = STEPS[net.kind]
    count = 2 if net.kind == "LSTM" else 1
    states = [_initial(net, 5 + i, at) for i in range(count)]
    outputs = []
    for time in range(length)[::way]:
        states = step(cell, net.cut(every, 1, time, time + 1), *states)
        outputs.append(states[0])
    return outputs[::way], states


def _initial(net: _Written, index: int, at: int) -> str:
    """A state ``[N, 1, H]`` before the first step, empty where it is zero."""
    name = net.operand(index)
    if not name or (name in net.constants and not net.constants[name].any()):
        return ""
    batch_first = name if net.batch_first else net("Transpose", name, perm=[1, 0, 2])
    return net.cut(batch_first, 1, at, at + 1)


@dataclass
class Cell:
    """The weights of a step: of the state ``[H, G H]``, and a bias that its reset gate scales."""

    net: _Written
    hidden: int
    weights: Array
    reset_bias: Array | None = None

    def __post_init__(self) -> None:
        gates = self.weights.shape[1] // self.hidden
        ends = [(0, gates)] if gates != 3 else [(0, 2), (2, 3)]
        self._parts = {
            (first, end): self.net.constant(
                self.weights[None, :, first * self.hidden : end * self.hidden]
            )
            for first, end in ends
        }

    def gate(self, x: str, first: int, end: int) -> str:
        """Gates `first` up to `end` of all of a step."""
        return self.net.cut(x, 2, first * self.hidden, end * self.hidden)

    def product(self, state: str, first: int, end: int) -> str:
        """The state's part of some gates, ``[N, 1, (end - first) H]``."""
        return self.net("MatMul", state, self._parts[first, end])


def lstm_step(cell: Cell, x: str, h: str, c: str) -> list[str]:
    """Gates in the order input, output, forget, cell."""
    net = cell.net
    gates = net("Add", x, cell.product(h, 0, 4)) if h else x
    i, o, f = (net("Sigmoid", cell.gate(gates, g, g + 1)) for g in range(3))
    new = net("Mul", i, net("Tanh", cell.gate(gates, 3, 4)))
    if c:
        new = net("Add", net("Mul", f, c), new)
    return [net("Mul", o, net("Tanh", new)), new]


def gru_step(cell: Cell, x: str, h: str) -> list[str]:
    """Gates in the order update, reset, hidden."""
    net = cell.net
    gates, new = cell.gate(x, 0, 2), cell.gate(x, 2, 3)
    gates = net("Sigmoid", net("Add", gates, cell.product(h, 0, 2)) if h else gates)
    z, r = cell.gate(gates, 0, 1), cell.gate(gates, 1, 2)
    if cell.reset_bias is not None:
        again = net("Add", cell.product(h, 2, 3), cell.reset_bias) if h else cell.reset_bias
        new = net("Add", new, net("Mul", r, again))
    elif h:
        new = net("Add", new, cell.product(net("Mul", r, h), 2, 3))
    kept = net("Mul", net("Sub", np.ones(1, np.float32), z), net("Tanh", new))
    return [net("Add", kept, net("Mul", z, h)) if h else kept]


def rnn_step(cell: Cell, x: str, h: str) -> list[str]:
    """One gate."""
    return [cell.net("Tanh", cell.net("Add", x, cell.product(h, 0, 1)) if h else x)]


STEPS: dict[str, Callable[..., list[str]]] = {
    "LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step,
}  # fmt: skip


def _outputs(net: _Written, runs: list[tuple[list[str], list[str]]], length: int) -> None:
    """The node's outputs: all states, and the last ones."""
    names = dict(enumerate(net.node.output))
    if names.get(0):
        sequences = list(_sequences(net, runs, length))
        both = net("Concat", *sequences, axis=2)
        perm = [0, 1, 2, 3] if net.batch_first else [1, 2, 0, 3]
        net("Transpose", both, perm=perm, output=names[0])
    for place, name in list(names.items())[1:]:
        if name:
            both = net("Concat", *(states[place - 1] for _, states in runs), axis=1)
            perm = [0, 1, 2] if net.batch_first else [1, 0, 2]
            net("Transpose", both, perm=perm, output=name)


def _sequences(
    net: _Written, runs: list[tuple[list[str], list[str]]], length: int
) -> Iterator[str]:
    """States of each direction, ``[N, T, 1, H]``."""
    for outputs, _ in runs:
        yield net("Reshape", net("Concat", *outputs, axis=1), [0, length, 1, -1])
