"""Preprocessing: the same bits as the float references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvm_probq.data.cards import Preprocess, load_card
from tvm_probq.data.preprocess import preprocess
from tvm_probq.errors import DataError

IMAGENET = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), np.uint8)


def test_values_are_those_of_the_reference_formula() -> None:
    x = (IMAGES.astype(np.float32) / 255 - np.float32(IMAGENET.mean)) / np.float32(IMAGENET.std)
    result = preprocess(IMAGES, IMAGENET)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.shape == (4, 3, 12, 10)
    assert result.tobytes() == np.ascontiguousarray(x.transpose(0, 3, 1, 2)).tobytes()


def test_resizing_is_pillows_bilinear() -> None:
    side = 7
    resized = np.stack(
        [np.asarray(Image.fromarray(i).resize((side, side), Image.BILINEAR)) for i in IMAGES]
    )
    how = Preprocess(IMAGENET.mean, IMAGENET.std, resize=side)
    assert preprocess(IMAGES, how).tobytes() == preprocess(resized, IMAGENET).tobytes()


def test_bgr_with_a_factor() -> None:
    how = Preprocess(mean=(100.0, 110.0, 120.0), factor=(0.01, 0.02, 0.03), channels="BGR")
    expected = (IMAGES[..., ::-1].astype(np.float32) - np.float32(how.mean)) * np.float32(
        how.factor
    )
    assert np.array_equal(preprocess(IMAGES, how), expected.transpose(0, 3, 1, 2))


def test_one_channel_images_are_resized_too() -> None:
    how = Preprocess(mean=(0.5,), std=(0.5,), resize=5)
    result = preprocess(IMAGES[..., :1], how)
    assert result.shape == (4, 1, 5, 5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "float32"),
        (IMAGES[0], "shape"),
        (IMAGES[:0], "no images"),
        (IMAGES[..., :1], "1 channels, but the card's mean has 3"),
    ],
)
def test_other_data_is_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preprocess(images, IMAGENET)


@pytest.mark.parametrize("name", ["cifar10_resnet20", "imagenet_mcunet_320kb_1mb"])
def test_shared_sets_equal_the_reference(shared_data: Path, name: str) -> None:
    card = load_card(shared_data / "cards" / f"{name}.toml")
    how = card.preprocess
    assert how is not None
    with np.load(card.calibration) as data:
        images = data["x"][:8]
    result = preprocess(images, how)
    if how.resize is not None:
        size = (how.resize, how.resize)
        images = np.stack(
            [np.asarray(Image.fromarray(i).resize(size, Image.BILINEAR)) for i in images]
        )
    expected = (images.astype(np.float32) / 255 - np.float32(how.mean)) / np.float32(how.std)
    assert result.tobytes() == expected.transpose(0, 3, 1, 2).tobytes()
