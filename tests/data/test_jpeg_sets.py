"""Detection sets of JPEG images and boxes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tvm_probq.data.jpeg_sets import JpegSet
from tvm_probq.data.sets import open_set
from tvm_probq.errors import DataError

COUNT, SIDE = 5, 16


def encoded(side: int = SIDE, shade: int = 0) -> bytes:
    """A plain image."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def stored(blobs: list[bytes]) -> dict[str, Any]:
    """Arrays of a set with one box an image, and two in the last one."""
    boxes = [[i, i % 3, 1, 2, 9, 10] for i in (*range(len(blobs)), len(blobs) - 1)]
    return {
        "jpeg": np.frombuffer(b"".join(blobs), np.uint8),
        "offsets": np.cumsum([0, *map(len, blobs)]),
        "boxes": np.array(boxes, np.float32),
    }


@pytest.fixture
def arrays() -> dict[str, Any]:
    """A set of images of rising brightness."""
    return stored([encoded(shade=40 * i) for i in range(COUNT)])


def saved(folder: Path, arrays: dict[str, Any]) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("size", "limit", "sizes"), [(2, None, [2, 2, 1]), (9, 4, [4]), (2, 3, [2, 1])]
)
def test_batches(
    tmp_path: Path, arrays: dict[str, Any], size: int, limit: int | None, sizes: list[int]
) -> None:
    samples = open_set(saved(tmp_path, arrays))
    assert isinstance(samples, JpegSet)
    assert samples.count == COUNT
    batches = list(samples.batches(size, limit))
    assert [len(b.x) for b in batches] == sizes
    images = np.concatenate([b.x for b in batches])
    assert images.shape[1:] == (SIDE, SIDE, 3)
    assert images.dtype == np.uint8
    assert images.mean((1, 2, 3)) == pytest.approx([40 * i for i in range(sum(sizes))], abs=2)
    for batch in batches:
        assert batch.y is not None
        assert set(batch.y[:, 0]) == set(range(batch.start, batch.start + len(batch.x)))
    last = batches[-1].y
    assert last is not None
    assert len(last) == sizes[-1] + (limit is None)


def without(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in arrays.items() if key != name}


FAULTS = {
    "no boxes": (lambda a: without(a, "boxes"), "no array 'boxes'"),
    "no offsets": (lambda a: without(a, "offsets"), "no array 'offsets'"),
    "words": (lambda a: {**a, "jpeg": a["jpeg"].astype(np.int16)}, "the bytes are int16"),
    "short": (lambda a: {**a, "jpeg": a["jpeg"][:-1]}, "offsets do not rise"),
    "empty image": (lambda a: {**a, "offsets": a["offsets"][[0, 1, 1, 2, 5]]}, "do not rise"),
    "one offset": (lambda a: {**a, "offsets": a["offsets"][:1]}, "offsets do not rise"),
    "no offset": (lambda a: {**a, "offsets": a["offsets"][:0]}, "the array is int64 of shape"),
    "columns": (lambda a: {**a, "boxes": a["boxes"][:, 1:]}, "the boxes have shape"),
    "no such image": (lambda a: {**a, "boxes": a["boxes"] + 1}, "images that are not there"),
    "half an image": (lambda a: {**a, "boxes": a["boxes"] / 2}, "images that are not there"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_explained(tmp_path: Path, arrays: dict[str, Any], name: str) -> None:
    change, message = FAULTS[name]
    path = saved(tmp_path, change(arrays))
    with pytest.raises(DataError, match=message) as caught:
        open_set(path)
    assert str(path) in str(caught.value)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, stored([encoded(), b"no image at all", encoded()]))
    with pytest.raises(DataError, match="image 1 cannot be decoded"):
        list(open_set(path).batches(2))


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, stored([encoded(), encoded(24)]))
    with pytest.raises(DataError, match="the images 0 to 1 differ in size"):
        list(open_set(path).batches(2))
