"""Check that the parameters of a quantized model can be kept as they are."""

from pathlib import Path
from typing import Any

import numpy as np

from tvm_probq.errors import ModelError, UnsupportedError
from tvm_probq.frontend.pairs import Pairs, integers
from tvm_probq.simulator.arithmetic import Array

# Operators on integers alone, and the domain of more of them.
INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
CONTRIBUTED = ("com.microsoft", ("QLinear", "QGemm"))
WEIGHT_ZERO = {"int8": 0, "uint8": 128}
PRODUCTS = ("Conv", "MatMul", "Gemm")


def check_operators(proto: Any, path: Path) -> None:
    """Refuse a model of operators on integers.

    Raises
    ------
    UnsupportedError
        For ``QLinearConv``, ``ConvInteger`` and the like.
    """
    domain, prefixes = CONTRIBUTED
    for node in proto.graph.node:
        contributed = node.domain == domain and node.op_type.startswith(prefixes)
        if node.op_type in INTEGER_OPERATORS or contributed:
            raise UnsupportedError(
                f"{_named(node)} is an operator on integers", where=str(path),
                why="quantized models are read as QuantizeLinear and DequantizeLinear around float "
                "operators",
                fix="export the model in that form (QDQ; of ONNX Runtime "
                "quant_format=QuantFormat.QDQ), or give the float model",
            )  # fmt: skip


def check_scales(pairs: Pairs, path: Path) -> None:
    """Refuse scales that are none.

    Raises
    ------
    ModelError
        For scales that are no positive numbers.
    """
    nodes = [*pairs.constants, *(node for pair in pairs.activations for node in pair)]
    for node in nodes:
        scale = pairs.array(node, 1)
        if scale is not None and not (np.isfinite(scale) & (scale > 0)).all():
            raise ModelError(
                f"{_named(node)} has a scale that is no positive number", where=str(path),
                why=f"it is {scale.min():g}", fix="quantize the model again",
            )  # fmt: skip


def check_kept(pairs: Pairs, path: Path) -> None:
    """Refuse parameters that cannot be kept.

    Raises
    ------
    UnsupportedError
        For activations and weights that are not 8 bits wide, activations of several scales that not
        only depthwise layers read, weights that are not symmetric, or have scales along another
        axis than output channels.
    """
    for quantize, dequantize in pairs.activations:
        what, why = _activation(pairs, quantize, dequantize)
        if what:
            raise _cannot(f"{_named(quantize)} {what}", why, path)
    for node in pairs.constants:
        for reader in pairs.readers(node):
            if reader.op_type in PRODUCTS and node.output[0] == reader.input[1]:
                what, why = _weights(pairs, node, reader)
                if what:
                    raise _cannot(f"the weights of {_named(reader)} {what}", why, path)


def _activation(pairs: Pairs, quantize: Any, dequantize: Any) -> tuple[str, str]:
    """What is wrong with a pair, and why; empty where nothing is."""
    dtype, scale = pairs.code_type(dequantize), pairs.array(quantize, 1)
    if dtype not in WEIGHT_ZERO:
        return f"stores {quantize.input[0]!r} as {dtype}", "tensors are stored in 8 bits"
    if scale is not None and scale.size > 1 and not _is_read_depthwise(pairs, dequantize):
        what = f"stores {quantize.input[0]!r} with {scale.size} scales"
        return what, "a tensor has one, but for what only depthwise layers read"
    return "", ""


def _is_read_depthwise(pairs: Pairs, dequantize: Any) -> bool:
    """Whether only depthwise layers read a tensor, whose scales are those of its channels."""
    channels = pairs.array(dequantize, 1)
    if channels is None or integers(dequantize).get("axis", 1) != 1:
        return False
    readers = list(pairs.readers(dequantize))
    return bool(readers) and all(
        node.op_type == "Conv"
        and integers(node).get("group", 1) == channels.size
        and pairs.dims(node.input[1])[:1] == [channels.size]
        for node in readers
    )


def _weights(pairs: Pairs, node: Any, reader: Any) -> tuple[str, str]:
    """What is wrong with weights, and why; empty where nothing is."""
    dtype, attributes = pairs.code_type(node), integers(node)
    if dtype not in WEIGHT_ZERO:
        return f"are {dtype}", "codes of weights are kept in 8 bits"
    if attributes.get("block_size"):
        return "have scales of blocks", "a layer has one an output channel"
    zero: Array | None = pairs.array(node, 2)
    if ((zero if zero is not None else np.zeros(1)) != WEIGHT_ZERO[dtype]).any():
        return f"are {dtype} with zero-points", "kernels multiply symmetric weights"
    scale, axis = pairs.array(node, 1), attributes.get("axis", 1) % len(pairs.dims(node.output[0]))
    first = reader.op_type == "Conv" or integers(reader).get("transB")
    wanted = 0 if first else len(pairs.dims(node.output[0])) - 1
    if scale is not None and scale.size > 1 and axis != wanted:
        return f"have scales along axis {axis}", f"output channels are along axis {wanted}"
    return "", ""


def _cannot(what: str, why: str, path: Path) -> UnsupportedError:
    return UnsupportedError(
        what, where=str(path), why=f"that cannot be kept as it is, {why}",
        fix="give --requantize (in Python requantize=True): the model is then taken as the float "
        "one that it stands for, and calibrated",
    )  # fmt: skip


def _named(node: Any) -> str:
    return f"the node {node.name or node.output[0]!r} ({node.op_type})"
