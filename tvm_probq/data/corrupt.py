"""Input shift of twelve kinds at five severities, for accuracy off the calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data.corruption_kinds import CORRUPTERS, KINDS, PARAMETERS
from tvm_probq.errors import DataError, UsageError

MAX_SEVERITY = 5
SMALL_SIDE = 64


@dataclass(frozen=True)
class Corruption:
    """A kind of input shift with its severity, 1 to 5; 0 leaves images unchanged."""

    kind: str
    severity: int

    def __str__(self) -> str:
        """Give the form that `parse_corruption` reads."""
        return f"{self.kind}:{self.severity}"


def parse_corruption(text: str) -> Corruption:
    """Read ``KIND:SEVERITY``, as in ``contrast:3``.

    Raises
    ------
    UsageError
        If the form, the kind or the severity is wrong; the message lists the kinds.
    """
    kind, colon, number = text.partition(":")
    fix = f"give KIND:SEVERITY, severity 0 to {MAX_SEVERITY}, KIND one of {', '.join(KINDS)}"
    if kind not in KINDS:
        raise UsageError(f"the corruption {text!r} is of no known kind", fix=fix)
    if not colon or number not in {str(severity) for severity in range(MAX_SEVERITY + 1)}:
        raise UsageError(f"the corruption {text!r} has no valid severity", fix=fix)
    return Corruption(kind, int(number))


def corrupt(
    images: NDArray[np.uint8], corruption: Corruption, *, seed: int = 0, first: int = 0
) -> NDArray[np.uint8]:
    """Corrupt images; the same image at the same place of a set always gives the same result.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB images.
    corruption : Corruption
        Kind and severity.
    seed : int, optional
        Of the random numbers; each image has its own stream.
    first : int, optional
        Index in the whole set of ``images[0]``, so that batches give what the whole set gives.

    Returns
    -------
    ndarray of uint8, shape (N, H, W, 3)
        A new array.

    Raises
    ------
    DataError
        If the images are not uint8 RGB images of rank 4.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        what = f"{images.dtype} data of shape {images.shape} cannot be corrupted"
        why = "corruptions are defined for uint8 RGB images (N, height, width, 3)"
        raise DataError(what, why=why, fix="leave out --corrupt for this data set")
    if corruption.severity == 0 or len(images) == 0:
        return images.copy()
    small, large = PARAMETERS[corruption.kind]
    table = small if images.shape[1] <= SMALL_SIDE else large
    amount = table[corruption.severity - 1]
    key = (seed, KINDS.index(corruption.kind), corruption.severity)
    rngs = (np.random.default_rng((*key, first + i)) for i in range(len(images)))
    corrupter = CORRUPTERS[corruption.kind]
    return np.stack(
        [corrupter(image, amount, rng) for image, rng in zip(images, rngs, strict=False)]
    )
