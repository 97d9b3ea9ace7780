"""Sums of a layer's weights over the taps of its kernel."""

import numpy as np

from tvm_probq.ir.layers import Geometry
from tvm_probq.simulator.arithmetic import Array


def tap_shares(geometry: Geometry) -> Array:
    """Share of output positions at which a kernel tap ``[KH, KW]`` reads inside the image."""
    if len(geometry.x_shape) == 2:
        return np.ones((1, 1))
    shares = []
    for axis in range(2):
        start = np.arange(geometry.y_shape[axis + 1]) * geometry.strides[axis]
        tap = np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
        at = start[:, None] + tap[None, :] - geometry.pads[axis]
        shares.append(((at >= 0) & (at < geometry.x_shape[axis + 1])).mean(0))
    inside: Array = np.multiply.outer(shares[0], shares[1])
    return inside


def tap_sums(weights: Array, geometry: Geometry) -> tuple[Array, Array]:
    """Sums over taps of w and w squared, ``[OC, IC / groups]``, each tap by its share inside."""
    share = tap_shares(geometry)[None, :, :, None]
    w = weights.astype(np.float64)
    return (w * share).sum((1, 2)), (w * w * share).sum((1, 2))


def expand_groups(by_group: Array, groups: int) -> Array:
    """``[OC, IC / groups]`` to the block matrix ``[OC, IC]``."""
    if groups == 1:
        return by_group
    oc, width = by_group.shape
    block = np.zeros((oc, width * groups))
    for g in range(groups):
        rows = slice(g * oc // groups, (g + 1) * oc // groups)
        block[rows, g * width : (g + 1) * width] = by_group[rows]
    return block
