"""Import an ONNX file as a canonical Relax module with marked layers."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.errors import UnsupportedError
from tvm_probq.frontend.check import check_graph, constant_names
from tvm_probq.frontend.check_pairs import check_kept, check_operators, check_scales
from tvm_probq.frontend.pairs import Pairs
from tvm_probq.frontend.read import read_onnx
from tvm_probq.frontend.recurrent import unroll_recurrent
from tvm_probq.frontend.shapes import Shapes, fixed_inputs
from tvm_probq.ir.expressions import shape_of
from tvm_probq.ir.layers import keeps_parameters
from tvm_probq.ir.macs import float_macs
from tvm_probq.passes.annotate_layers import NAMES, PAIR_NAMES
from tvm_probq.passes.pipeline import canonical_passes

Spec = tuple[str, tuple[int, ...], str]
# What the importer raises about a model: its own assertions, and those of TVM (RuntimeError).
IMPORT_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
)  # fmt: skip
CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = (*CONVOLUTIONS, "Gemm", "MatMul")
CONV_RANKS = (3, 4)


@dataclass(frozen=True)
class Model:
    """An imported model.

    Attributes
    ----------
    mod : IRModule
        Canonical float module, channels last inside, with ``R.probq.layer`` markers.  Of a model
        that is quantized already it holds the file's parameters and codes of weights.
    inputs, outputs : tuple of (name, shape, dtype)
        As in the ONNX file, with fixed shapes.
    sha256 : str
        Of the ONNX file.
    source : str
        Its path.
    macs : int
        Multiply-accumulates of a call, as imported.
    """

    mod: IRModule
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    sha256: str
    source: str
    macs: int = 0

    @property
    def keeps_parameters(self) -> bool:
        """Whether tensors have the file's own parameters: it needs no calibration."""
        return keeps_parameters(self.mod)


def load_model(
    path: Path | str, *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None,
    requantize: bool = False,
) -> Model:  # fmt: skip
    """Import an ONNX file.

    Parameters
    ----------
    path : Path or str
        The file.
    batch : int
        Value of a symbolic first dimension.
    shapes : Mapping, optional
        Full shapes by input name, for inputs with other symbolic dimensions.
    requantize : bool
        Take a model that is quantized already (QuantizeLinear, DequantizeLinear) as the float model
        that it stands for; without, its parameters and codes are kept.  One with quantized weights
        alone is taken so in any case.

    Raises
    ------
    ModelError
        When the file is missing, no ONNX file, truncated or invalid, or its weights are not finite.
    UnsupportedError
        For operators, data types, opsets or symbolic shapes that cannot be imported, and for
        quantization that cannot be kept.
    """
    path = Path(path)
    proto = read_onnx(path)
    check_graph(proto, path)
    _read_pairs(proto, path, requantize)
    fixed = fixed_inputs(proto, path, batch, shapes or {})
    proto = unroll_recurrent(proto, {name: shape for name, (shape, _) in fixed.items()}, path)
    mod = _import(proto, fixed, path)
    macs = float_macs(mod)
    with_weights, of_tensors = _product_names(proto)
    mod["main"] = mod["main"].with_attr(NAMES, with_weights).with_attr(PAIR_NAMES, of_tensors)
    mod = _canonical(mod, path)
    return Model(
        mod,
        tuple((name, shape, dtype) for name, (shape, dtype) in fixed.items()),
        _outputs(mod, [o.name for o in proto.graph.output], path),
        hashlib.sha256(path.read_bytes()).hexdigest(),
        str(path),
        macs,
    )


def _read_pairs(proto: Any, path: Path, requantize: bool) -> None:
    """Check what a quantized model brings, or take it away."""
    check_operators(proto, path)
    pairs = Pairs(proto)
    check_scales(pairs, path)
    if requantize or not pairs.activations:
        pairs.strip()
    else:
        check_kept(pairs, path)


def _import(proto: Any, fixed: Shapes, path: Path) -> IRModule:
    shapes = {name: list(shape) for name, (shape, _) in fixed.items()}
    dtypes = {name: dtype for name, (_, dtype) in fixed.items()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Renaming name")  # of parameters, in the module alone
            return from_onnx(
                proto, shape_dict=shapes, dtype_dict=dtypes, keep_params_in_input=False,
                sanitize_input_names=True,
            )  # fmt: skip
    except tvm.error.OpNotImplemented as error:
        raise UnsupportedError(
            "the model has operators that TVM cannot import", where=str(path), why=_last(error),
            fix="replace them before exporting to ONNX",
        ) from error  # fmt: skip
    except IMPORT_ERRORS as error:
        raise UnsupportedError(
            "TVM cannot import the model", where=str(path), why=_last(error),
            fix="check the model with onnx.checker, and its input shapes",
        ) from error  # fmt: skip


def _canonical(mod: IRModule, path: Path) -> IRModule:
    try:
        return tvm.transform.Sequential(canonical_passes())(mod)
    except ValueError as error:
        raise UnsupportedError(
            "the model has tensors of unknown shape", where=str(path), why=_last(error),
            fix="fix every input shape on the command line, and make inputs that decide a shape "
            "constants in the ONNX file",
        ) from error  # fmt: skip


def _last(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _product_names(proto: Any) -> tuple[list[str], list[str]]:
    """Names of the nodes that become products, in graph order.

    First those with constant weights, then those of two tensors.
    """
    constants, ranks = constant_names(proto), _ranks(proto)
    batched = {t.name for t in proto.graph.initializer if len(t.dims) > 2}
    alone = _normalizations(proto, constants)
    with_weights, of_tensors = [], []
    for index, node in enumerate(proto.graph.node):
        if node.op_type not in PRODUCTS and node.output[0] not in alone:
            continue
        if node.input[0] in constants:
            continue
        if node.op_type == "MatMul" and node.input[1] in batched:
            continue
        name, rank = node.name or f"{node.op_type}_{index}", ranks.get(node.output[0], 4)
        if node.input[1] not in constants:
            of_tensors += [name] if node.op_type == "MatMul" and rank in (3, 4) else []
        elif node.op_type in ("Gemm", "MatMul") or rank in CONV_RANKS:
            with_weights.append(name)
    return with_weights, of_tensors


def _normalizations(proto: Any, constants: set[str]) -> set[str]:
    """Results of normalizations of images that no convolution takes up (`FoldBatchNorm`)."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    uses = Counter(name for node in proto.graph.node for name in node.input)
    uses.update(output.name for output in proto.graph.output)
    alone = set()
    for node in proto.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        x = node.input[0]
        maker = makers.get(x)
        folds = maker is not None and maker.op_type in PRODUCTS and maker.input[1] in constants
        if maker is not None and not (folds and uses[x] == 1):
            alone.add(node.output[0])
    return alone


def _ranks(proto: Any) -> dict[str, int]:
    """Rank of each tensor whose shape ONNX infers."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _outputs(mod: IRModule, names: list[str], path: Path) -> tuple[Spec, ...]:
    body = mod["main"].body.body
    fields = list(body.fields) if isinstance(body, relax.Tuple) else [body]
    types = [f.ty for f in fields]
    if len(types) == 1 and isinstance(types[0], relax.TupleType):
        types = list(types[0].fields)
    if len(types) != len(names):
        raise UnsupportedError(
            f"the model has {len(names)} outputs, and TVM imports {len(types)}", where=str(path),
            why="sequences of tensors are taken apart, and optional outputs are added",
            fix="let the model's outputs be tensors",
        )  # fmt: skip
    return tuple(
        (name, _output_shape(name, ty, path), str(ty.dtype))
        for name, ty in zip(names, types, strict=True)
    )


def _output_shape(name: str, ty: Any, path: Path) -> tuple[int, ...]:
    if isinstance(ty, relax.TensorType) and tvm.DataType(str(ty.dtype)).bits % 8:
        raise UnsupportedError(
            f"the output {name!r} is {ty.dtype}", where=str(path),
            why="TVM gives no tensors of parts of bytes", fix="cast it to float32 or int32",
        )  # fmt: skip
    try:
        return shape_of(relax.Var("output", ty))
    except ValueError as error:
        raise UnsupportedError(
            f"the output {name!r} has no shape that is known before the model runs",
            where=str(path), why=f"it is {ty}",
            fix="make inputs that decide a shape constants in the ONNX file",
        ) from error  # fmt: skip
