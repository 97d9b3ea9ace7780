"""Images to model inputs, in the same float32 arithmetic as the float references."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvm_probq.data.cards import Preprocess
from tvm_probq.errors import DataError


def preprocess(images: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float32]:
    """Turn images into a model's input.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, C)
        RGB or one channel, values 0 to 255.
    how : Preprocess
        From the card.

    Returns
    -------
    ndarray of float32, shape (N, C, H', W')
        C-contiguous. H' = W' = ``how.resize`` where that is given.

    Raises
    ------
    DataError
        If the images are not uint8, not of rank 4, or have other channels than ``how.mean``.
    """
    check_images(images, how)
    if how.resize is not None:
        images = np.stack([_resize(image, how.resize) for image in images])
    if how.channels == "BGR":
        images = images[..., ::-1]
    pixels = images.astype(np.float32)
    # The order of operations is part of the contract: results must equal the references' bits.
    mean = np.array(how.mean, np.float32)
    if how.factor is not None:
        pixels = (pixels - mean) * np.array(how.factor, np.float32)
    elif how.std is not None:
        std = np.array(how.std, np.float32)
        pixels = np.divide(np.divide(pixels, 255, dtype=np.float32) - mean, std, dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def check_images(images: NDArray[np.uint8], how: Preprocess) -> None:
    """Raise a DataError unless the images fit the card's preprocessing."""
    fix = f"store x as uint8 images of shape (N, height, width, {len(how.mean)})"
    if images.dtype != np.uint8 or images.ndim != 4:
        what = f"the images are {images.dtype} of shape {images.shape}"
        raise DataError(what, why="preprocessing takes uint8 NHWC images", fix=fix)
    if images.shape[0] == 0:
        raise DataError("there are no images", fix="give at least one")
    if images.shape[3] != len(how.mean):
        what = (
            f"the images have {images.shape[3]} channels, but the card's mean has {len(how.mean)}"
        )
        raise DataError(what, fix=f"{fix}, or correct mean and std in the card")


def _resize(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if image.shape[2] == 1:
        # Pillow has no one-channel rank-3 images.
        return _resize_plane(image[..., 0], side)[..., None]
    return _resize_plane(image, side)


def _resize_plane(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)
