"""Which positions of a tensor the surrogates read."""

import math
from dataclasses import dataclass

import numpy as np

from tvm_probq.ir.layers import Geometry

MAX_SAMPLED_POSITIONS = 512
MIN_SAMPLED_POSITIONS = 49
MAX_SAMPLED_CHANNELS = 32
NARROW_CHANNELS = 16


@dataclass(frozen=True)
class Sampling:
    """Which positions of a tensor a surrogate reads: a grid with these strides."""

    strides: tuple[int, int]

    def count(self, shape: tuple[int, ...]) -> int:
        """Positions read of a tensor of NHWC (or ``[N, C]``) `shape`."""
        if len(shape) == 2:
            return 1
        down, right = self.strides
        return -(-shape[1] // down) * -(-shape[2] // right)


def sampling(shape: tuple[int, ...], most: int = MAX_SAMPLED_POSITIONS) -> Sampling:
    """A grid of about `most` positions of an NHWC (or ``[N, C]``) tensor, fewer of a wide one.

    A wide tensor's range and correction are sums over many channels, whose sampling errors average
    out.  The grid is about as dense down as across.  Of few channels whole rows are read, which
    several positions of a vector share.  A tensor has one sampling, so that all its readers share
    its sums.
    """
    if len(shape) == 2:
        return Sampling((1, 1))
    height, width, channels = shape[1:]
    wanted = min(most, max(most * MAX_SAMPLED_CHANNELS // channels, MIN_SAMPLED_POSITIONS))
    every = max(1.0, height * width / wanted)
    if channels < NARROW_CHANNELS:
        return Sampling((min(height, math.ceil(every)), 1))
    down = min(height, math.ceil(every / min(width, math.isqrt(int(every)))))
    return Sampling((down, min(width, math.ceil(every / down))))


def patch_gamma(geometry: Geometry, most: int = 64) -> int:
    """Stride of the sampled output positions of the `iid` surrogate, at most `most` of them."""
    if len(geometry.y_shape) == 2:
        return 1
    gamma = 1
    while np.prod([-(-d // gamma) for d in geometry.y_shape[1:3]]) > most:
        gamma += 1
    return gamma


def patch_count(geometry: Geometry, gamma: int) -> int:
    """Output positions sampled with stride `gamma`."""
    if len(geometry.y_shape) == 2:
        return 1
    return int(np.prod([-(-d // gamma) for d in geometry.y_shape[1:3]]))
