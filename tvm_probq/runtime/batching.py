"""Any number of samples through a model compiled for a fixed batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.build.manifest import TensorForm
from tvm_probq.errors import DataError

Arrays = dict[str, NDArray[Any]]
Call = Callable[[Arrays], list[NDArray[Any]]]


def by_name(
    inputs: Mapping[str, NDArray[Any]] | NDArray[Any], forms: Sequence[TensorForm]
) -> Arrays:
    """Give inputs under their names; a bare array is the only input.

    Raises
    ------
    DataError
        If a bare array is given for several inputs, or a name is missing or unknown.
    """
    names = [name for name, _, _ in forms]
    expected = f"the model takes {_listed(forms)}"
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            what = f"one array is given for {len(names)} inputs"
            raise DataError(what, why=expected, fix="give one array an input, under its name")
        return {names[0]: inputs}
    missing = [name for name in names if name not in inputs]
    if missing:
        what = f"the input {missing[0]!r} is missing, only {sorted(inputs)} are given"
        raise DataError(what, why=expected, fix="add it")
    unknown = sorted(set(inputs) - set(names))
    if unknown:
        what = f"the model has no input {unknown[0]!r}"
        raise DataError(what, why=expected, fix="leave it out, or correct its name")
    return {name: inputs[name] for name in names}


def check_forms(arrays: Arrays, forms: Sequence[TensorForm], *, where: str = "") -> int:
    """Check element types and shapes but for the number of samples, and give that number.

    Raises
    ------
    DataError
        If an array does not fit; says what is expected and what is given.
    """
    for name, shape, dtype in forms:
        array = arrays[name]
        sample = ", ".join(map(str, shape[1:]))
        fix = f"give {dtype} samples of shape [N{', ' if sample else ''}{sample}]"
        if array.dtype != np.dtype(dtype):
            what = f"the input {name!r} is {array.dtype}, but the model takes {dtype}"
            raise DataError(what, where=where, fix=fix)
        if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
            what = (
                f"the input {name!r} has shape {list(array.shape)}, "
                f"but the model takes {list(shape)}, with any number of samples first"
            )
            raise DataError(what, where=where, fix=fix)
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        what = f"the inputs have different numbers of samples: {counts}"
        raise DataError(what, where=where, fix="give the same number for every input")
    count = next(iter(counts.values()))
    if count == 0:
        raise DataError("there are no samples", where=where, fix="give at least one")
    return count


def check_exact(arrays: Arrays, forms: Sequence[TensorForm], *, where: str = "") -> None:
    """Check element types and shapes of the inputs of one call.

    Raises
    ------
    DataError
        If an array does not fit; says what is expected and what is given.
    """
    for name, shape, dtype in forms:
        array = arrays[name]
        if (array.shape, array.dtype) != (shape, np.dtype(dtype)):
            raise DataError(
                f"the input {name!r} is {array.dtype} of shape {list(array.shape)}, "
                f"but the model takes {dtype} of shape {list(shape)}",
                where=where,
                why="its inputs and outputs do not count the same samples in their first dimension",
                fix="give arrays of exactly these shapes, one call at a time",
            )


def run_batches(call: Call, arrays: Arrays, count: int, batch: int) -> list[NDArray[Any]]:
    """Call a model of a fixed batch as often as needed; checks nothing.

    Parameters
    ----------
    call : callable
        Takes arrays of exactly `batch` samples by name, gives outputs with as many.
    arrays : dict of str to ndarray
        Inputs of `count` samples.
    count, batch : int
        The last batch is filled up by repeating the last sample, and the result cut.
    """
    parts = [call(part) for part in _padded(arrays, count, batch)]
    return [np.concatenate(outputs)[:count] for outputs in zip(*parts, strict=True)]


def _padded(arrays: Arrays, count: int, batch: int) -> Iterator[Arrays]:
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        yield {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}


def _listed(forms: Sequence[TensorForm]) -> str:
    return ", ".join(f"{name!r} ({dtype} {list(shape)})" for name, shape, dtype in forms)
