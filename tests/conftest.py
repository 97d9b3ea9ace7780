"""Fixtures that several tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from emulation import EmulatedBoard, require_board, require_python
from onnx import helper, numpy_helper
from tvm import relax

from tvm_probq.build.artefact import save_artefact
from tvm_probq.build.compiled import Compiled, LayerReport
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

REPOSITORY = Path(__file__).resolve().parents[1]
BATCH = 2
PROFILE = "x86-64"
ZERO, MINUS_FIVE = np.int8(0), np.int8(-5)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of trained models and labelled data beside the checkout; skips without it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "cards").is_dir():
        pytest.skip("needs the trained models and data sets in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def board_python() -> Path:
    """The Python of the emulated ARM board, whose CPU is ARM_BOARD_CPU; skips without it."""
    return require_python()


@pytest.fixture(scope="session")
def board_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoard]:
    """The processes of the emulated board, whether there is one or not."""
    board = EmulatedBoard(tmp_path_factory.mktemp("board"))
    yield board
    board.close()


@pytest.fixture
def emulated_board(board_processes: EmulatedBoard) -> EmulatedBoard:
    """The emulated ARM board; skips without one."""
    require_board()
    return board_processes


class OnnxNet:
    """An ONNX graph built node by node, weights drawn from one random stream.

    The input is ``x``, its first dimension symbolic.  ``net("Relu", y)`` appends a node and gives
    the name of its (first) output; arrays among the operands become initializers.
    """

    def __init__(self, *shape: Any, opset: int = 17, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *shape])]
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.opset = opset

    def __call__(self, op: str, *operands: Any, name: str = "", **attributes: Any) -> str:
        """Append a node; the first output's name."""
        number = len(self.nodes)
        outputs = [f"{op}_{number}_{i}" for i in range(attributes.pop("outputs", 1))]
        inputs = [o if isinstance(o, str) else self.constant(o) for o in operands]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def constant(self, value: Any) -> str:
        """An initializer; lists of integers are shapes, all else is float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"w{len(self.weights)}"
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def draw(self, *shape: int, scale: float = 1.0) -> Any:
        """Normal random numbers."""
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: int = 3, *, group: int = 1,
        bias: bool = True, name: str = "", **attributes: Any,
    ) -> str:  # fmt: skip
        """A convolution that keeps the size (unless attributes say otherwise) and the variance."""
        taps = kernel * kernel * inputs // group
        weights = self.draw(outputs, inputs // group, kernel, kernel, scale=(2 / taps) ** 0.5)
        attributes = {"pads": [kernel // 2] * 4, **attributes}
        constants = [weights, self.draw(outputs, scale=0.1)][: 1 + bias]
        return self("Conv", x, *constants, name=name, group=group, **attributes)

    def pair(self, x: str, scale: float = 0.05, zero: Any = MINUS_FIVE) -> str:
        """`x` quantized and dequantized again."""
        parameters = [self.exact(np.float32(scale)), self.exact(zero)]
        return self("DequantizeLinear", self("QuantizeLinear", x, *parameters), *parameters)

    def coded(self, *shape: int, scale: Any = None, zero: Any = ZERO, axis: int = 0) -> str:
        """Weights as codes of the type of `zero`, with a scale for each channel along `axis`."""
        limits = np.iinfo(zero.dtype)
        codes = self.rng.integers(limits.min, limits.max + 1, shape).astype(zero.dtype)
        if scale is None:
            scale = self.rng.uniform(0.5, 1.5, shape[axis]) * 0.02 / np.prod(shape[1:]) ** 0.5
        scale = np.asarray(scale, np.float32)
        zeros = self.exact(np.full(scale.shape, zero, zero.dtype))
        return self("DequantizeLinear", self.exact(codes), self.exact(scale), zeros, axis=axis)

    def exact(self, value: Any) -> str:
        """An initializer of the type that `value` has."""
        name = f"w{len(self.weights)}"
        self.weights[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def batch_norm(self, x: str, channels: int) -> str:
        """A batch normalization that is not the identity."""
        gamma, var = (self.rng.uniform(0.5, 1.5, channels) for _ in range(2))
        return self("BatchNormalization", x, gamma, self.draw(channels), self.draw(channels), var)

    def gemm(self, x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        """A fully connected layer, weights as PyTorch writes them."""
        weights = self.draw(outputs, inputs, scale=inputs**-0.5)
        return self("Gemm", x, weights, self.draw(outputs), transB=1, **attributes)

    def proto(self, *outputs: str) -> Any:
        """The checked model with the tensors `outputs`."""
        graph = helper.make_graph(self.nodes, "net", self.inputs, [], list(self.weights.values()))
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        known = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
        model.graph.output.extend(known[o] for o in outputs)
        onnx.checker.check_model(model)
        return model

    def save(self, folder: Path, *outputs: str) -> Path:
        """The model in a file of `folder`; without `outputs`, the last node's."""
        path = folder / f"net{len(list(folder.iterdir()))}.onnx"
        onnx.save(self.proto(*(outputs or self.nodes[-1].output[:1])), path)
        return path


@pytest.fixture(scope="session")
def onnx_net() -> Callable[..., OnnxNet]:
    """The class that builds small ONNX models."""
    return OnnxNet


def make_compiled(profile: str = PROFILE) -> Compiled:
    """Compile ``y = relu(x @ w)`` for a batch of two."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((BATCH, 3), "float32"))
    weights = np.arange(12, dtype=np.float32).reshape(3, 4) - 6
    with builder.function("main", [x]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, relax.const(weights)))
            out = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(out)
    mod = builder.finalize()
    return Compiled(
        executable=tvm.compile(mod, load_profile(profile).target()),
        integer_module=mod,
        layers=(LayerReport("product", "dense", 8, 8, accumulator="int32"),),
        peak_activation_bytes=56,
        parameter_bytes=48,
        mode="predicted",
        scheme="w8a8",
        inputs=(("x", (BATCH, 3), "float32"),),
        outputs=(("y", (BATCH, 4), "float32"),),
        target=profile,
    )


@pytest.fixture(scope="session")
def compile_small() -> Callable[..., Compiled]:
    """The function that compiles a model of one layer for a profile, anew each time."""
    return make_compiled


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    """The compiled model."""
    return make_compiled()


@pytest.fixture
def artefact_path(compiled: Compiled, tmp_path: Path) -> Path:
    """The model saved."""
    path = tmp_path / "model.probq"
    record = CalibrationRecord("model hash", "data hash", samples=7)
    plan, profile = plan_of("w8a8"), load_profile(PROFILE)
    save_artefact(compiled, plan, record, profile, path, model_sha256="model hash", seed=3)
    return path
