"""Ready model inputs by name, and checks of sample values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data import npz
from tvm_probq.errors import DataError


def load_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Load ready model inputs, stored under the names of the model's inputs.

    Parameters
    ----------
    path : str or Path
        An npz file; every array has its samples first, all the same number.

    Returns
    -------
    dict of str to ndarray
        By input name; shapes and element types as stored.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, has arrays of different lengths, no samples, an
        element type that no model takes, or NaN or infinity (the message names the sample).
    """
    path = Path(path)
    headers = npz.read_headers(path)
    if not headers:
        fix = "store one array an input, under the input's name"
        raise DataError("the file holds no arrays", where=str(path), fix=fix)
    for info in headers.values():
        check_samples(info, path)
    lengths = {key: info.shape[0] for key, info in headers.items()}
    if len(set(lengths.values())) > 1:
        what = f"the arrays have different numbers of samples: {lengths}"
        raise DataError(what, where=str(path), fix="store the same number for every input")
    arrays = {key: _load(path, info) for key, info in headers.items()}
    for key, array in arrays.items():
        check_finite(array, where=f"{path}, array {key!r}")
    return arrays


def check_finite(x: NDArray[Any], *, where: str = "", first: int = 0) -> None:
    """Raise a DataError that names the first sample with NaN or infinity.

    Parameters
    ----------
    x : ndarray, shape (N, ...)
        Samples; integers always pass.
    where : str, optional
        What to call the data in the message.
    first : int, optional
        Index in the whole set of ``x[0]``.
    """
    if x.dtype.kind != "f" or bool(np.isfinite(x).all()):
        return
    finite = np.isfinite(x.reshape(len(x), -1))
    bad = np.flatnonzero(~finite.all(axis=1))
    values = x.reshape(len(x), -1)[bad[0]]
    kind = "NaN" if bool(np.isnan(values).any()) else "infinity"
    what = f"sample {first + int(bad[0])} contains {kind}"
    if len(bad) > 1:
        what += f", and {len(bad) - 1} more of {len(x)} samples are not finite"
    why = "ranges cannot be fitted to values that are not finite"
    raise DataError(what, where=where, why=why, fix="repair or remove these samples")


def _load(path: Path, info: npz.ArrayInfo) -> NDArray[Any]:
    (array,) = npz.stream(path, info, info.shape[0])
    return array


def check_samples(info: npz.ArrayInfo, path: Path) -> None:
    """Raise a DataError unless an array holds samples that a model may take."""
    where = f"{path}, array {info.key!r}"
    if info.dtype.kind not in "biuf":
        what = f"the element type {info.dtype} is none that a model takes"
        raise DataError(what, where=where, fix="store integers or floating-point numbers")
    if not info.shape:
        fix = "store an array whose first dimension counts the samples"
        raise DataError("a single number is no set of samples", where=where, fix=fix)
    if info.shape[0] == 0:
        raise DataError("there are no samples", where=where, fix="store at least one")
    if 0 in info.shape:
        what = f"the samples are empty: shape {info.shape}"
        raise DataError(what, where=where, fix="store samples with at least one element")
