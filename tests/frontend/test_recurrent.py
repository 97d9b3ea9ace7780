"""Recurrent nodes written out as steps, against the reference implementation of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.errors import UnsupportedError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.ir.islands import RECURRENT
from tvm_probq.simulator.interpreter import Simulator

TIME, INPUTS, HIDDEN = 5, 6, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    net: Any, kind: str, *, bias: bool = True, initial: bool = False, **attributes: Any
) -> list[str]:
    """A node behind the input ``[n, T, I]``; its outputs."""
    both = 1 + (attributes.get("direction") == "bidirectional")
    gates = GATES[kind] * HIDDEN
    operands = [net.draw(both, gates, INPUTS, scale=0.4), net.draw(both, gates, HIDDEN, scale=0.4)]
    operands.append(net.draw(both, 2 * gates, scale=0.2) if bias else "")
    if initial:
        operands += ["", net.draw(both, 1, HIDDEN)]
        operands += [net.draw(both, 1, HIDDEN)] if kind == "LSTM" else []
    x = net("Transpose", "x", perm=[1, 0, 2])
    count = 3 if kind == "LSTM" else 2
    net(kind, x, *operands, hidden_size=HIDDEN, outputs=count, **attributes)
    return list(net.nodes[-1].output)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "lstm without bias": ("LSTM", {"bias": False}),
    "lstm backwards": ("LSTM", {"direction": "reverse"}),
    "lstm both ways": ("LSTM", {"direction": "bidirectional"}),
    "lstm with a state": ("LSTM", {"initial": True, "direction": "bidirectional"}),
    "gru": ("GRU", {}),
    "gru of PyTorch": ("GRU", {"linear_before_reset": 1}),
    "gru with a state": ("GRU", {"initial": True, "linear_before_reset": 1}),
    "rnn": ("RNN", {"initial": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_steps(case: str, onnx_net: Any, tmp_path: Path) -> None:
    kind, options = CASES[case]
    net = onnx_net(TIME, INPUTS)
    path = net.save(tmp_path, *recurrent(net, kind, **options))
    x = np.random.default_rng(0).normal(size=(1, TIME, INPUTS)).astype(np.float32)
    model = load_model(path)
    found = Simulator(model.mod)(x)
    for y, wanted in zip(found, expected(path, x), strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def expected(path: Path, x: Any) -> list[Any]:
    """What ONNX gives; its reference knows no reversed layers, so these run on reversed inputs."""
    proto = onnx.load(path)
    (node,) = (n for n in proto.graph.node if n.op_type in GATES)
    ways = {a.name: a for a in node.attribute}.get("direction")
    if ways is None:
        return list(ReferenceEvaluator(proto).run(None, {"x": x}))
    names = {"reverse": [-1], "bidirectional": [1, -1]}[ways.s.decode()]
    runs = [one_way(proto, node, at, way, x) for at, way in enumerate(names)]
    return [
        np.concatenate(parts, 1 if place == 0 else 0)
        for place, parts in enumerate(zip(*runs, strict=True))
    ]


def one_way(proto: Any, node: Any, at: int, way: int, x: Any) -> list[Any]:
    """One direction of a node, as a model of its own."""
    single = onnx.ModelProto.FromString(proto.SerializeToString())
    (copy,) = (n for n in single.graph.node if n.op_type == node.op_type)
    kept = [a for a in copy.attribute if a.name != "direction"]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    for tensor in single.graph.initializer:
        if tensor.name in copy.input:
            value = onnx.numpy_helper.to_array(tensor)[at : at + 1]
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    outputs = ReferenceEvaluator(single).run(None, {"x": x[:, ::way]})
    return [outputs[0][::way], *outputs[1:]]


def test_what_is_read_of_the_sequence_is_one_layer(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(TIME, INPUTS)
    y = recurrent(net, "LSTM")[0]
    y = net("Reshape", net("Transpose", y, perm=[2, 0, 1, 3]), [0, TIME, HIDDEN])
    net("MatMul", y, net.draw(HIDDEN, 3), name="head")
    marked = marked_tensors(load_model(net.save(tmp_path)).mod)
    assert [(m.kind, m.layer is not None) for m in marked.values()] == [
        ("input", False), ("output", True), ("float", False), ("output", True),
    ]  # fmt: skip
    assert "head" in marked
    assert [m.reason for m in marked.values() if m.reason] == [RECURRENT]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "clipping": ({"clip": 3.0}, "clip"),
    "another activation": ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "Relu"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_attributes(case: str, onnx_net: Any, tmp_path: Path) -> None:
    attributes, word = REFUSED[case]
    net = onnx_net(TIME, INPUTS)
    path = net.save(tmp_path, recurrent(net, "LSTM", **attributes)[0])
    with pytest.raises(UnsupportedError, match=word):
        load_model(path)


@pytest.mark.parametrize(("place", "word"), [(4, "lengths of sequences"), (7, "peepholes")])
def test_refused_inputs(place: int, word: str, onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(TIME, INPUTS)
    output = recurrent(net, "LSTM")[0]
    inputs = [*net.nodes[-1].input, "", "", "", ""][:place]
    kind = np.full(1, TIME) if place == 4 else net.draw(1, 3 * HIDDEN)
    proto = net.proto(output)
    kind = kind.astype("int32" if place == 4 else "float32")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(kind, "extra"))
    (node,) = (n for n in proto.graph.node if n.op_type == "LSTM")
    del node.input[:]
    node.input.extend([*inputs, "extra"])
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    with pytest.raises(UnsupportedError, match=word):
        load_model(path)


def test_weights_that_vary_are_refused(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(TIME, INPUTS)
    weights = net("Relu", net("Reshape", "x", [1, -1, INPUTS]))
    x = net("Transpose", "x", perm=[1, 0, 2])
    net("RNN", x, weights, net.draw(1, TIME, TIME), hidden_size=TIME, outputs=1)
    with pytest.raises(UnsupportedError, match="no constant"):
        load_model(net.save(tmp_path))


def test_an_old_opset_is_refused(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(TIME, INPUTS, opset=9)
    recurrent(net, "RNN")
    model = net.proto(net.nodes[-1].output[0])
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match="opsets from 10"):
        load_model(path)
