"""Data sets: npz files read in batches, so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tvm_probq.data import npz
from tvm_probq.data.arrays import check_samples
from tvm_probq.data.batch import Batch, batch_sizes
from tvm_probq.data.cards import Card
from tvm_probq.data.corrupt import Corruption, corrupt
from tvm_probq.data.jpeg_sets import KEY, JpegSet, open_jpeg_set
from tvm_probq.data.preprocess import preprocess
from tvm_probq.errors import DataError

Split = Literal["calibration", "evaluation"]
SET_FORM = "store x (samples first) and, for accuracy, y (one label a sample)"


@dataclass(frozen=True)
class SampleSet:
    """A checked data set that is read only when iterated; see `open_set`."""

    path: Path
    x: npz.ArrayInfo
    y: npz.ArrayInfo | None

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.x.shape[0]

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Read batches in stored order.

        Parameters
        ----------
        size : int
            Samples a batch, at least 1; the last batch may be shorter.
        limit : int, optional
            Read only so many samples from the start.

        Raises
        ------
        DataError
            If the file turns out to be damaged.
        """
        sizes = batch_sizes(self.count, size, limit)
        samples = npz.stream_blocks(self.path, self.x, sizes)
        labels = None if self.y is None else npz.stream_blocks(self.path, self.y, sizes)
        start = 0
        for x in samples:
            yield Batch(start, x, None if labels is None else next(labels))
            start += len(x)


def open_set(path: str | Path) -> SampleSet | JpegSet:
    """Check a data set without reading its samples.

    Parameters
    ----------
    path : str or Path
        An npz file with ``x``, samples first, and optionally ``y``, as many labels; or one with
        ``jpeg``, ``offsets`` and ``boxes``, see :mod:`tvm_probq.data.jpeg_sets`.

    Raises
    ------
    DataError
        If the file cannot be read, has no ``x``, no samples, an element type that no model
        takes, or another number of labels than of samples; or if images and boxes do not fit.
    """
    path = Path(path)
    headers = npz.read_headers(path)
    if KEY in headers:
        return open_jpeg_set(path, headers)
    x, y = headers.get("x"), headers.get("y")
    if x is None:
        what = f"the data set has no array 'x', only {sorted(headers) or 'nothing'}"
        raise DataError(what, where=str(path), fix=SET_FORM)
    check_samples(x, path)
    if y is not None and (not y.shape or y.shape[0] != x.shape[0]):
        what = f"there are {x.shape[0]} samples but labels of shape {y.shape}"
        raise DataError(what, where=str(path), fix="store one label a sample")
    return SampleSet(path, x, y)


def model_inputs(
    card: Card,
    split: Split,
    size: int,
    limit: int | None = None,
    corruption: Corruption | None = None,
) -> Iterator[Batch]:
    """Read a card's set as model inputs: corrupted if asked, then preprocessed.

    Parameters
    ----------
    card : Card
        Names the set and the preprocessing.
    split : {"calibration", "evaluation"}
        Which of the card's sets.
    size, limit
        As for `SampleSet.batches`.
    corruption : Corruption, optional
        Applied to the images before the preprocessing.

    Yields
    ------
    Batch
        Images as float32 NCHW; token ids as stored.

    Raises
    ------
    DataError
        If the set is invalid or damaged, or does not fit the preprocessing; names the file.
    """
    path = card.calibration if split == "calibration" else card.evaluation
    for batch in open_set(path).batches(size, limit):
        x = batch.x
        try:
            if corruption is not None:
                x = corrupt(x, corruption, first=batch.start)
            if card.preprocess is not None:
                x = preprocess(x, card.preprocess)
        except DataError as error:
            raise DataError(error.what, where=str(path), why=error.why, fix=error.fix) from error
        yield Batch(batch.start, x, batch.y)
