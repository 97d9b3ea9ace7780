"""Detection sets: npz files with JPEG images one after the other, and boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvm_probq.data import npz
from tvm_probq.data.batch import Batch, batch_sizes
from tvm_probq.errors import DataError

KEY = "jpeg"
FORM = (
    "store jpeg (the images' bytes, uint8), offsets (where each begins, and the end) and boxes "
    "(image, class, left, top, right, bottom)"
)
BOX = 6


@dataclass(frozen=True)
class JpegSet:
    """A checked detection set whose images are read only when iterated; see `open_jpeg_set`.

    Attributes
    ----------
    path : Path
        The npz file.
    jpeg : npz.ArrayInfo
        Bytes of all images.
    lengths : ndarray of int, shape (N,)
        Bytes of each image.
    boxes : ndarray, shape (k, 6)
        Index of the image, class, left, top, right and bottom in pixels.
    """

    path: Path
    jpeg: npz.ArrayInfo
    lengths: NDArray[Any]
    boxes: NDArray[Any]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.lengths)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Read batches in stored order; see `SampleSet.batches`.

        Yields
        ------
        Batch
            RGB images, and the boxes of these images.
        """
        sizes = batch_sizes(self.count, size, limit)
        blobs = npz.stream_blocks(self.path, self.jpeg, [int(n) for n in self.lengths])
        start = 0
        for count in sizes:
            images = [self._decode(next(blobs), start + i) for i in range(count)]
            if len({image.shape for image in images}) > 1:
                what = f"the images {start} to {start + count - 1} differ in size"
                raise DataError(what, where=str(self.path), fix="pad or scale them to one size")
            here = (self.boxes[:, 0] >= start) & (self.boxes[:, 0] < start + count)
            yield Batch(start, np.stack(images), self.boxes[here])
            start += count

    def _decode(self, blob: NDArray[Any], index: int) -> NDArray[np.uint8]:
        try:
            return np.asarray(Image.open(io.BytesIO(blob.tobytes())).convert("RGB"))
        except OSError as error:  # Pillow's errors are of this kind
            raise DataError(
                f"image {index} cannot be decoded", where=str(self.path), why=str(error), fix=FORM
            ) from error


def open_jpeg_set(path: Path, headers: dict[str, npz.ArrayInfo]) -> JpegSet:
    """Check a detection set without reading its images.

    Parameters
    ----------
    path : Path
        The npz file.
    headers : dict of str to npz.ArrayInfo
        Its arrays; ``jpeg`` is among them.

    Raises
    ------
    DataError
        If an array is missing or has another form, there are no images, the offsets do not cover
        the bytes in order, or a box is of no image.
    """
    missing = sorted({"offsets", "boxes"} - set(headers))
    if missing:
        raise DataError(f"the set has no array {missing[0]!r}", where=str(path), fix=FORM)
    jpeg = headers[KEY]
    offsets, boxes = (_load(path, headers[name]) for name in ("offsets", "boxes"))
    if jpeg.dtype != np.uint8 or len(jpeg.shape) != 1:
        what = f"the bytes are {jpeg.dtype} of shape {jpeg.shape}"
        raise DataError(what, where=f"{path}, array {KEY!r}", fix=FORM)
    lengths = np.diff(offsets)
    covers = len(lengths) and offsets[0] == 0 and offsets[-1] == jpeg.shape[0] and lengths.min() > 0
    if not covers:
        what = "the offsets do not rise from 0 to the number of bytes"
        raise DataError(what, where=f"{path}, array 'offsets'", fix=FORM)
    inside = boxes.ndim == 2 and boxes.shape[1] == BOX and _are_indices(boxes[:, 0], len(lengths))
    if not inside:
        what = f"the boxes have shape {boxes.shape}, or are of images that are not there"
        raise DataError(what, where=f"{path}, array 'boxes'", fix=FORM)
    return JpegSet(path, jpeg, lengths, boxes)


def _load(path: Path, info: npz.ArrayInfo) -> NDArray[Any]:
    if not info.shape or 0 in info.shape or info.dtype.kind not in "iuf":
        what = f"the array is {info.dtype} of shape {info.shape}"
        raise DataError(what, where=f"{path}, array {info.key!r}", fix=FORM)
    (array,) = npz.stream(path, info, info.shape[0])
    return array.astype(np.int64) if info.key == "offsets" else array


def _are_indices(values: NDArray[Any], count: int) -> bool:
    return bool(((values == np.floor(values)) & (values >= 0) & (values < count)).all())
