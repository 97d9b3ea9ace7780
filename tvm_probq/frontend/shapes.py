"""Fix the input shapes of an ONNX graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm_probq.errors import ModelError, UnsupportedError, UsageError
from tvm_probq.frontend.check import DTYPES, graph_inputs

IMAGE_SIDE, TEXT_LENGTH = 224, 128  # in examples
Shapes = dict[str, tuple[tuple[int, ...], str]]


def counted_samples(forms: Sequence[tuple[str, tuple[int, ...], str]]) -> int | None:
    """The samples that the first dimension of every tensor counts, None where they differ."""
    first = {shape[:1] for _, shape, _ in forms}
    if len(first) != 1 or () in first:
        return None
    ((count,),) = first
    return count


def fixed_inputs(
    proto: Any, path: Path, batch: int, given: Mapping[str, tuple[int, ...]]
) -> Shapes:
    """Shape and dtype of each input, by name.

    A given shape may say 1 for the first dimension where the model leaves it open: `batch` counts.

    Raises
    ------
    ModelError
        When a given shape names no input or contradicts the model.
    UnsupportedError
        When a dimension other than the batch stays symbolic.
    UsageError
        When the batch holds no sample.
    """
    if batch < 1:
        raise UsageError(f"the batch is {batch}", where=str(path), fix="use 1 or more")
    values = {v.name: v for v in graph_inputs(proto)}
    for name in given:
        if name not in values:
            raise ModelError(
                f"the model has no input {name!r}", where=str(path), fix=f"use {', '.join(values)}"
            )
    return {
        name: (_shape(name, v, path, batch, given.get(name)), DTYPES[v.type.tensor_type.elem_type])
        for name, v in values.items()
    }


def _shape(
    name: str, value: Any, path: Path, batch: int, given: tuple[int, ...] | None
) -> tuple[int, ...]:
    dims = list(value.type.tensor_type.shape.dim)
    declared = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    if given is not None:
        fits = len(given) == len(dims) and all(
            d is None or d == g for d, g in zip(declared, given, strict=True)
        )
        if not fits:
            raise ModelError(
                f"the input {name!r} cannot have the shape {given}", where=str(path),
                why=f"the model declares {tuple(declared)}", fix="give a shape that fits",
            )  # fmt: skip
        return (batch, *given[1:]) if given[:1] == (1,) and declared[0] is None else given
    if declared and declared[0] is None:
        declared[0] = batch
    elif declared and declared[0] != batch and batch != 1:
        raise ModelError(
            f"the input {name!r} has the fixed batch {declared[0]}", where=str(path),
            why=f"a batch of {batch} was asked", fix=f"use --batch {declared[0]}",
        )  # fmt: skip
    if any(d is None for d in declared):
        names = [d.dim_param or str(d.dim_value or "?") for d in dims]
        unknown = [dims[at].dim_param or f"dimension {at}" for at in _open(declared)]
        example = ",".join(map(str, [dims[0].dim_value or 1, *_example(declared)[1:]]))
        raise UnsupportedError(
            f"the input {name!r} has the symbolic shape ({', '.join(names)}): it leaves open "
            f"{', '.join(unknown)}", where=str(path),
            why="kernels are made for fixed heights, widths and lengths",
            fix=f"say the sizes on the command line, such as --shape {name}={example}",
        )  # fmt: skip
    return tuple(int(d) for d in declared if d is not None)


def _open(declared: list[int | None]) -> list[int]:
    return [at for at, size in enumerate(declared) if size is None]


def _example(declared: list[int | None]) -> list[int]:
    """Sizes in place of those that are open, usual ones of an image or a text."""
    usual = IMAGE_SIDE if len(declared) == 4 else TEXT_LENGTH
    return [usual if size is None else size for size in declared]


def open_inputs(proto: Any) -> list[str]:
    """Names of the inputs with open sizes other than the first."""
    dims = {v.name: v.type.tensor_type.shape.dim for v in graph_inputs(proto)}
    return [n for n, d in dims.items() if not all(size.HasField("dim_value") for size in d[1:])]


def fixed_batch(proto: Any) -> int | None:
    """The first dimension that the model declares for an input, None where all leave it open."""
    dims = [v.type.tensor_type.shape.dim[:1] for v in graph_inputs(proto)]
    declared = [d.dim_value for first in dims for d in first if d.HasField("dim_value")]
    return declared[0] if declared else None
