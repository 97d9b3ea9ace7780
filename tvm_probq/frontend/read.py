"""Read an ONNX file, with a clear word on whatever may be wrong with it."""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tvm_probq.errors import ModelError


def read_onnx(path: Path) -> Any:
    """The model of an ONNX file, with its external data.

    Raises
    ------
    ModelError
        When the file is missing, unreadable, no ONNX file or truncated, or its data files are gone.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelError(
            "the model cannot be read", where=str(path), why=error.strerror or str(error),
            fix="check the path",
        ) from error  # fmt: skip
    except (DecodeError, ValueError) as error:
        raise _not_onnx(path, "it cannot be decoded: no ONNX file, or a truncated one") from error
    if not proto.graph.node or not proto.opset_import:
        raise _not_onnx(path, "it holds no graph")
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            "the model's external data cannot be read", where=str(path), why=str(error),
            fix="copy the data files next to the model",
        ) from error  # fmt: skip
    return proto


def _not_onnx(path: Path, why: str) -> ModelError:
    return ModelError(
        "the file is no complete ONNX model", where=str(path), why=why,
        fix="export it again, or copy it again",
    )  # fmt: skip
