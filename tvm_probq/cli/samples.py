"""Calibration samples of a card, of ready inputs, or random ones, each with its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data import npz
from tvm_probq.data.arrays import check_finite, check_samples
from tvm_probq.data.cards import Card
from tvm_probq.data.sets import model_inputs, open_set
from tvm_probq.errors import DataError, UnsupportedError
from tvm_probq.frontend.shapes import counted_samples

if TYPE_CHECKING:
    from tvm_probq.build.manifest import TensorForm

BLOCK = 16
RANDOM = "random"

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """A stream of single model inputs that can be read again.

    Attributes
    ----------
    identity : str
        SHA-256 of what decides the values, without their number: a record may be continued
        with more samples of the same identity. Begins with ``random`` for random inputs.
    count : int
        Number of samples.
    source : str
        What to call them in messages.
    stream : callable
        Gives an iterator of model inputs of one sample: an array, or a tuple of one array an input.
    """

    identity: str
    count: int
    source: str
    stream: Callable[[], Iterator[Any]]


def of_card(card: Card, form: TensorForm, limit: int) -> Samples:
    """Give the first samples of a card's calibration set."""
    count = min(limit, open_set(card.calibration).count)
    how = None if card.preprocess is None else asdict(card.preprocess)
    identity = _hash({"set": _file_hash(card.calibration), "preprocess": how})

    def stream() -> Iterator[Array]:
        for batch in model_inputs(card, "calibration", BLOCK, limit):
            yield from _singles(batch.x, form, str(card.calibration), batch.start)

    return Samples(identity, count, str(card.calibration), stream)


def of_inputs(path: Path, inputs: Sequence[TensorForm], limit: int) -> Samples:
    """Give the first samples of a model's ready inputs, stored under their names.

    Inputs that do not all count one sample in their first dimension (a fixed batch, a single
    number) are stored whole, one call after the other, in arrays of one dimension more.
    """
    whole = counted_samples(inputs) != 1
    return of_several([of_arrays(path, form, limit, whole=whole) for form in inputs])


def of_arrays(path: Path, form: TensorForm, limit: int, *, whole: bool = False) -> Samples:
    """Give the first samples of ready model inputs, stored under the input's name.

    With `whole` each sample has the full shape of the input, not one without its first dimension.
    """
    headers = npz.read_headers(path)
    name = form[0]
    if name not in headers:
        raise DataError(
            f"the file has no array {name!r}, only {sorted(headers) or 'nothing'}",
            where=str(path),
            why=f"the model's input is {name!r}",
            fix="store the model's inputs under that name, or give --card for images",
        )
    info = headers[name]
    check_samples(info, path)
    where = f"{path}, array {name!r}"

    def stream() -> Iterator[Array]:
        start = 0
        for block in npz.stream(path, info, BLOCK):
            yield from _singles(block[: limit - start], form, where, start, whole=whole)
            start += len(block)
            if start >= limit:
                return

    identity = _hash({"arrays": _file_hash(path), "input": name})
    return Samples(identity, min(limit, info.shape[0]), str(path), stream)


def of_several(parts: Sequence[Samples]) -> Samples:
    """Join the samples of several inputs, in the order of the model's inputs.

    Raises
    ------
    DataError
        If there are not as many of each.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    counts = [part.count for part in parts]
    if len(set(counts)) != 1:
        raise DataError(
            f"the inputs have different numbers of samples: {counts}",
            where=first.source,
            fix="store the same number for every input",
        )
    identities = [part.identity for part in parts]
    identity = first.identity if len(set(identities)) == 1 else _hash({"inputs": identities})

    def stream() -> Iterator[tuple[Array, ...]]:
        yield from zip(*(part.stream() for part in parts), strict=True)

    return Samples(identity, first.count, first.source, stream)


def of_chance(form: TensorForm, count: int, seed: int, *, place: int = 0) -> Samples:
    """Give random inputs from the standard normal distribution, for latency work only.

    Inputs of different `place` among those of a model differ.

    Raises
    ------
    UnsupportedError
        If the input takes no floating-point numbers: random indices have no meaning.
    """
    name, shape, dtype = form
    if np.dtype(dtype).kind != "f":
        raise UnsupportedError(
            f"the input {name!r} takes {dtype}, for which random values cannot be made",
            fix="give real inputs by --card or --data",
        )

    def stream() -> Iterator[Array]:
        for index in range(count):
            rng = np.random.default_rng((seed, index, place) if place else (seed, index))
            yield rng.standard_normal(shape).astype(dtype)

    return Samples(f"{RANDOM}:{seed}", count, f"{count} random inputs", stream)


def only_input(inputs: tuple[TensorForm, ...], source: str) -> TensorForm:
    """Give the only input of a model that takes one sample.

    Raises
    ------
    UnsupportedError
        If it has several inputs, or a fixed batch.
    """
    if len(inputs) != 1:
        names = ", ".join(repr(name) for name, _, _ in inputs)
        raise UnsupportedError(
            f"the model has {len(inputs)} inputs ({names})",
            where=source,
            why="cards and timings are for models with one input",
            fix="give all inputs of `calibrate` and `compile` by --data, or make the others "
            "constants in the ONNX file",
        )
    name, shape, _ = inputs[0]
    if shape[:1] != (1,):
        raise UnsupportedError(
            f"the input {name!r} has the fixed batch {shape[0]}"
            if shape
            else f"the input {name!r} is a single number",
            where=source,
            why="cards and timings look at one sample at a time",
            fix="export the model with a symbolic first dimension, or calibrate it by --data with "
            "arrays of whole inputs, one dimension more",
        )
    return inputs[0]


def _singles(
    block: Array, form: TensorForm, where: str, first: int, *, whole: bool = False
) -> Iterator[Array]:
    name, shape, dtype = form
    wanted = shape if whole else shape[1:]
    if block.shape[1:] != wanted or block.dtype != np.dtype(dtype):
        raise DataError(
            f"the samples are {block.dtype} of shape {list(block.shape[1:])}",
            where=where,
            why=f"the model's input {name!r} is {dtype} of shape {list(wanted)}",
            fix="give samples of this form, or correct the preprocessing in the card",
        )
    check_finite(block, where=where, first=first)
    for sample in block:
        yield np.reshape(sample, shape)


def _hash(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
