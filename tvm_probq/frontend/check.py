"""Check an ONNX graph before it is imported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tvm_probq.errors import ModelError, UnsupportedError

OLDEST_OPSET = 7
DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}


def check_graph(proto: Any, path: Path) -> None:
    """Check opset, structure, data types and weights.

    Raises
    ------
    ModelError
        For an invalid graph, or weights with NaN or infinity.
    UnsupportedError
        For an opset or data type that is not supported.
    """
    _check_opset(proto, path)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            "the model is not valid ONNX", where=str(path), why=str(error).splitlines()[0],
            fix="export it again",
        ) from error  # fmt: skip
    for value in graph_inputs(proto):
        elem = value.type.tensor_type.elem_type
        if elem not in DTYPES:
            raise UnsupportedError(
                f"the input {value.name!r} has the type {TensorProto.DataType.Name(elem)}",
                where=str(path), why=f"only {', '.join(DTYPES.values())} can be imported",
                fix="export the model in float32",
            )  # fmt: skip
    for name, tensor in _constants(proto):
        _check_weights(name, tensor, path)


def _check_opset(proto: Any, path: Path) -> None:
    for opset in proto.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            continue
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST_OPSET <= opset.version <= newest:
            raise UnsupportedError(
                f"the model has opset {opset.version}", where=str(path),
                why=f"opsets {OLDEST_OPSET} to {newest} can be imported",
                fix="convert it with onnx.version_converter",
            )  # fmt: skip


def _constants(proto: Any) -> Iterator[tuple[str, Any]]:
    """Initializers and the tensors of ``Constant`` nodes, by name."""
    for tensor in proto.graph.initializer:
        yield tensor.name, tensor
    for node in proto.graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value")


def _check_weights(name: str, tensor: Any, path: Path) -> None:
    if tensor.data_type in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
        raise UnsupportedError(
            f"the weights {name!r} are {TensorProto.DataType.Name(tensor.data_type)}",
            where=str(path), why="calibration and quantization start from float32",
            fix="export the model in float32",
        )  # fmt: skip
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    wrong = int((~np.isfinite(values)).sum()) if values.size > 1 else 0
    if wrong:
        raise ModelError(
            f"the weights {name!r} hold NaN or infinity", where=str(path),
            why=f"{wrong} of {values.size} values are not finite",
            fix="repair or retrain the model",
        )  # fmt: skip


def graph_inputs(proto: Any) -> list[Any]:
    """Inputs that are not initializers."""
    weights = {t.name for t in proto.graph.initializer}
    return [v for v in proto.graph.input if v.name not in weights]


def constant_names(proto: Any) -> set[str]:
    """Names of initializers and of what nodes compute from nothing but constants."""
    names = {t.name for t in proto.graph.initializer}
    for node in proto.graph.node:
        if all(name in names for name in node.input if name) and not _is_random(node):
            names.update(node.output)
    return names


def _is_random(node: Any) -> bool:
    return str(node.op_type).startswith("Random")
