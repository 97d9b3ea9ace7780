"""ONNX's node tests as models to quantize: as given, with constants, and in front of a layer."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

IR_VERSION = 8  # from 4 on an initializer need not be an input
LAYER = "layer_behind"
CHANNELS = 4
LARGEST = 512  # elements of a sample that such a layer reads


@dataclass(frozen=True)
class Case:
    """One model with inputs and the outputs that ONNX expects.

    Attributes
    ----------
    operator, test : str
        The node's operator, and the name of ONNX's test.
    variant : str
        ``given``, ``constants`` (all inputs but the first are initializers) or ``layer`` (also a
        fully connected layer reads the first output, so that it must be stored as codes).
    proto : onnx.ModelProto
        The model.
    inputs, outputs : tuple
        Arrays, but for sequences and optional values.
    scale : float
        Largest magnitude that an error of integers refers to.
    """

    operator: str
    test: str
    variant: str
    proto: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    scale: float


def node_tests() -> list[Any]:
    """ONNX's tests of one node each: those of function bodies (``_expanded``) are left out."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    return sorted((t for t in tests if "_expanded" not in t.name), key=lambda t: str(t.name))


def operator_of(test: Any) -> str:
    """The operator of a test's only node."""
    return str(test.model.graph.node[0].op_type)


def cases(test: Any) -> Iterator[Case]:
    """The variants of a test."""
    inputs, outputs = (tuple(map(_value, values)) for values in test.data_sets[0])
    proto = _copy(test.model)
    operator, name = operator_of(test), str(test.name)
    scale = max((_largest(y) for y in outputs), default=0.0)
    yield Case(operator, name, "given", proto, inputs, outputs, scale)
    if not all(isinstance(v, np.ndarray) for v in (*inputs, *outputs)):
        return  # sequences and optional values
    if len(inputs) > 1:
        proto, inputs = _with_constants(proto, inputs), inputs[:1]
        yield Case(operator, name, "constants", proto, inputs, outputs, scale)
    if inputs and _may_feed_a_layer(outputs[0]):
        proto, wanted = _with_layer(proto, outputs[0])
        yield Case(operator, name, "layer", proto, inputs, (wanted,), _largest(outputs[0]))


def _largest(y: Any) -> float:
    """Largest finite magnitude."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biuf":
        return 0.0
    finite = y[np.isfinite(y)].astype(np.float64)
    return float(np.abs(finite).max()) if finite.size else 0.0


def _value(value: Any) -> Any:
    """An array; sequences and missing values as they are."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def _copy(proto: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _with_constants(proto: Any, inputs: tuple[Array, ...]) -> Any:
    changed = _copy(proto)
    changed.ir_version = max(changed.ir_version, IR_VERSION)
    first, *others = proto.graph.input
    del changed.graph.input[:]
    changed.graph.input.append(first)
    for value, array in zip(others, inputs[1:], strict=True):
        changed.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return changed


def _may_feed_a_layer(y: Array) -> bool:
    if y.ndim < 2 or y.dtype != np.float32 or not 0 < y.size <= LARGEST * len(y):
        return False
    return bool(np.isfinite(y).all())


def _with_layer(proto: Any, y: Array) -> tuple[Any, Array]:
    """The model whose only output is a fully connected layer of the first output `y`."""
    changed = _copy(proto)
    changed.ir_version = max(changed.ir_version, IR_VERSION)
    flat = y.reshape(len(y), -1)
    rng = np.random.default_rng(0)
    size = (flat.shape[1], CHANNELS)
    weights = rng.normal(scale=flat.shape[1] ** -0.5, size=size).astype(np.float32)
    graph = changed.graph
    graph.node.extend(
        [
            helper.make_node("Flatten", [graph.output[0].name], ["flat_behind"], axis=1),
            helper.make_node("MatMul", ["flat_behind", "weights_behind"], [LAYER], name=LAYER),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(weights, "weights_behind"))
    del graph.output[:]
    shape = (len(y), CHANNELS)
    graph.output.append(helper.make_tensor_value_info(LAYER, onnx.TensorProto.FLOAT, shape))
    return changed, flat @ weights
