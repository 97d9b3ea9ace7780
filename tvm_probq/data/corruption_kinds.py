"""The twelve kinds of input shift, each a function of one image.

After the corruptions of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", arXiv 1903.12261, simplified to NumPy and Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator
Corrupter = Callable[[Bytes, float, Rng], Bytes]


def _to_float(image: Bytes) -> Floats:
    return np.divide(image, 255, dtype=np.float32)


def _to_bytes(values: NDArray[np.floating]) -> Bytes:
    rounded: Bytes = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return rounded


def _from_pillow(image: Image.Image) -> Bytes:
    return np.asarray(image, dtype=np.uint8)


def _gaussian_noise(image: Bytes, amount: float, rng: Rng) -> Bytes:
    return _to_bytes(_to_float(image) + rng.normal(0, amount, image.shape))


def _shot_noise(image: Bytes, amount: float, rng: Rng) -> Bytes:
    return _to_bytes(rng.poisson(_to_float(image) * amount) / amount)


def _impulse_noise(image: Bytes, amount: float, rng: Rng) -> Bytes:
    values, draw = _to_float(image), rng.random(image.shape)
    values[draw < amount / 2] = 0
    values[draw > 1 - amount / 2] = 1
    return _to_bytes(values)


def _gaussian_blur(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    return _from_pillow(Image.fromarray(image).filter(ImageFilter.GaussianBlur(amount)))


def _motion_blur(image: Bytes, amount: float, rng: Rng) -> Bytes:
    length, angle = int(amount), rng.uniform(-np.pi / 4, np.pi / 4)
    values = _to_float(image)
    total = np.zeros_like(values)
    padded = np.pad(values, ((length, length), (length, length), (0, 0)), mode="edge")
    height, width = values.shape[:2]
    steps = 2 * length - 1
    for step in np.linspace(-(length - 1) / 2, (length - 1) / 2, steps):
        dx, dy = round(step * np.cos(angle)), round(step * np.sin(angle))
        total += padded[length + dy :, length + dx :][:height, :width]
    return _to_bytes(total / steps)


def _pixelate(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    height, width = image.shape[:2]
    coarse = (max(1, int(width * amount)), max(1, int(height * amount)))
    small = Image.fromarray(image).resize(coarse, Image.Resampling.BOX)
    return _from_pillow(small.resize((width, height), Image.Resampling.NEAREST))


def _brightness(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.float32)
    hsv[..., 2] = np.clip(hsv[..., 2] + 255 * amount, 0, 255)
    height, width = image.shape[:2]
    changed = Image.frombytes("HSV", (width, height), hsv.astype(np.uint8).tobytes())
    return _from_pillow(changed.convert("RGB"))


def _darkness(image: Bytes, amount: float, rng: Rng) -> Bytes:
    return _brightness(image, -amount, rng)


def _contrast(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    values = _to_float(image)
    mean = values.mean((0, 1), keepdims=True)
    return _to_bytes((values - mean) * amount + mean)


def _saturate(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    values = _to_float(image)
    grey = (values @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return _to_bytes(grey + (values - grey) * amount)


def _fog(image: Bytes, amount: float, rng: Rng) -> Bytes:
    values = _to_float(image)
    brightest = values.max()
    fog = _plasma(max(image.shape[:2]), rng)[: image.shape[0], : image.shape[1], None]
    return _to_bytes((values + amount * fog) * brightest / (brightest + amount))


def _plasma(side: int, rng: Rng, decay: float = 2.0) -> Floats:
    """Smooth fractal noise in 0 to 1: a sum of random grids, each enlarged to the full side."""
    total = np.zeros((side, side), np.float32)
    grid, amplitude = 2, 1.0
    while grid <= side:
        noise = Image.fromarray(rng.random((grid, grid), dtype=np.float32))
        total += amplitude * np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))
        grid, amplitude = grid * 2, amplitude / decay
    total -= total.min()
    return np.divide(total, max(total.max(), 1e-6), dtype=np.float32)


def _jpeg(image: Bytes, amount: float, _rng: Rng) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(amount))
    return _from_pillow(Image.open(buffer).convert("RGB"))


CORRUPTERS: dict[str, Corrupter] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "pixelate": _pixelate,
    "brightness": _brightness,
    "darkness": _darkness,
    "contrast": _contrast,
    "saturate": _saturate,
    "fog": _fog,
    "jpeg": _jpeg,
}
KINDS = tuple(CORRUPTERS)

# Amounts for severities 1 to 5: for images of at most 64 pixels a side, and for larger.
PARAMETERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "motion_blur": ((2, 3, 4, 5, 6), (8, 12, 17, 22, 28)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darkness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": ((0.3, 0.1, 1.5, 2.0, 5.0), (0.3, 0.1, 2.0, 5.0, 10.0)),
    "fog": ((0.2, 0.5, 0.75, 1.0, 1.5), (1.0, 1.3, 1.6, 2.0, 2.5)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
