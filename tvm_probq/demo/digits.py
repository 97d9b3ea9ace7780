"""The demo's data: scikit-learn's handwritten digits, split the same way every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tvm_probq.errors import EnvironmentProblem

MODEL_PATH = Path(__file__).with_name("digits.onnx")
CALIBRATION_COUNT = 128
EVALUATION_COUNT = 600
SPLIT_SEED = 0
LARGEST_PIXEL = 16

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def load_split() -> tuple[Images, Images, Labels]:
    """Load what quantization and evaluation need.

    Returns
    -------
    calibration_x : ndarray of float32, shape (128, 1, 8, 8)
        Grey images of the training part, values 0 to 1.
    evaluation_x : ndarray of float32, shape (600, 1, 8, 8)
        Images the network has never seen, as many of each digit as in the whole set.
    evaluation_y : ndarray of int64, shape (600,)
        Their digits.

    Raises
    ------
    EnvironmentProblem
        If scikit-learn, which carries the images, is not installed.
    """
    train_x, _, evaluation_x, evaluation_y = load_all()
    return train_x[:CALIBRATION_COUNT], evaluation_x, evaluation_y


def load_all() -> tuple[Images, Labels, Images, Labels]:
    """Load the training part and the evaluation part, both with labels; see `load_split`."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise EnvironmentProblem(
            "the demo's images cannot be loaded",
            where="scikit-learn",
            why=str(error),
            fix="pip install scikit-learn, or install this package with its extra 'demo'",
        ) from error
    digits = load_digits()
    x = (digits.images[:, None] / LARGEST_PIXEL).astype(np.float32)
    y = digits.target.astype(np.int64)
    train_x, evaluation_x, train_y, evaluation_y = train_test_split(
        x, y, test_size=EVALUATION_COUNT, random_state=SPLIT_SEED, stratify=y
    )
    return train_x, train_y, evaluation_x, evaluation_y
