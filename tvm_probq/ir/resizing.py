"""Resizing of images as tables: between which two rows, or columns, each new one lies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_probq.ir.expressions import ints, is_call, shape_of
from tvm_probq.simulator.arithmetic import F32, Array

EPSILON = np.float32(1e-5)  # TVM's, against rounding below a whole number


@dataclass(frozen=True)
class Taps:
    """Where each new row (or column) lies.

    Attributes
    ----------
    index : Array
        int32 ``[2, n]``: the old row before it and the one behind it.
    weight : F32
        float32 ``[n]``, 0 to 1: how far it is on the way from the first to the second.
    """

    index: Array
    weight: F32


def _half_pixel(at: F32, old: int, new: int) -> F32:
    return (at + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)


def _pytorch_half_pixel(at: F32, old: int, new: int) -> F32:
    return _half_pixel(at, old, new) if new > 1 else np.zeros_like(at)


def _align_corners(at: F32, old: int, new: int) -> F32:
    return at * np.float32((old - 1) / max(new - 1, 1))


def _asymmetric(at: F32, old: int, new: int) -> F32:
    return at * np.float32(old / new)


COORDINATES: dict[str, Callable[[F32, int, int], F32]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
}
NEAREST: dict[str, Callable[[F32], F32]] = {
    "round_prefer_floor": lambda at: np.ceil(at - np.float32(0.5)),
    "round_prefer_ceil": lambda at: np.floor(at + np.float32(0.5)),
    "floor": lambda at: np.floor(at + EPSILON),
    "ceil": lambda at: np.ceil(at - EPSILON),
}


def is_resize(call: Any) -> bool:
    """Whether `call` resizes an NHWC tensor by its nearest or linearly between its two nearest."""
    if not is_call(call, "image.resize2d") or str(call.attrs.layout) != "NHWC":
        return False
    a = call.attrs
    if str(a.coordinate_transformation_mode) not in COORDINATES:
        return False
    method = str(a.method)
    return method == "linear" or (
        method == "nearest_neighbor" and str(a.rounding_method) in NEAREST
    )


def resize_taps(call: Any) -> tuple[Taps, Taps]:
    """Rows and columns of a call that `is_resize`."""
    old, a = shape_of(call.args[0])[1:3], call.attrs
    nearest = None if str(a.method) == "linear" else str(a.rounding_method)
    coordinates = str(a.coordinate_transformation_mode)
    rows, columns = (
        taps(before, after, coordinates, nearest)
        for before, after in zip(old, ints(call.args[1]), strict=True)
    )
    return rows, columns


def taps(old: int, new: int, coordinates: str, nearest: str | None = None) -> Taps:
    """Taps of one axis.

    Parameters
    ----------
    old, new : int
        Its length before and after.
    coordinates : str
        One of `COORDINATES`, as ONNX defines them.
    nearest : str, optional
        One of `NEAREST`; without it the interpolation is linear.
    """
    at = COORDINATES[coordinates](np.arange(new, dtype=np.float32), old, new)
    first = np.floor(at) if nearest is None else NEAREST[nearest](at)
    weight = at - first if nearest is None else np.zeros_like(at)
    index = np.stack([first, first + (nearest is None)]).astype(np.int32)
    return Taps(np.clip(index, 0, old - 1), weight)
