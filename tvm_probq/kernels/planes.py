"""Codes of 6, 4 and 2 bits in bytes: registers of a group share planes of their bits.

Unpacking is loads one behind the other, shifts and masks, whatever the length of a register:

========  =========  ==================================================================
bits      registers  planes
========  =========  ==================================================================
4         2          the first register in the lower halves of the bytes, then the second
2         4          two bits of each register, the first in the lowest
6         4          lower halves: two planes as for 4 bits; upper parts: one as for 2 bits
========  =========  ==================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BYTE = 8
HALF = 4  # bits of a half of a byte
PART = 2  # bits of a quarter
GROUPS = {6: 4, 4: 2, 2: 4}  # registers that share planes, by bits

Codes = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]


def planes_of(bits: int) -> int:
    """Planes of a group of registers."""
    return GROUPS[bits] * bits // BYTE


def grouped(registers: int, bits: int) -> int:
    """Groups that hold so many registers."""
    return -(-registers // GROUPS[bits])


def pack_planes(codes: Codes, bits: int, signed: bool) -> Bytes:
    """Put registers of codes into planes.

    Parameters
    ----------
    codes : ndarray of int8, shape [..., registers, size]
        Codes of `bits` bits; zeros are added up to whole groups.
    bits : int
        6, 4 or 2.
    signed : bool
        Two's complement, else each code plus ``2 ** (bits - 1)``.

    Returns
    -------
    ndarray of uint8, shape [..., groups, planes, size]
    """
    *outer, registers, size = codes.shape
    group = GROUPS[bits]
    missing = grouped(registers, bits) * group - registers
    room = [(0, 0)] * len(outer) + [(0, missing), (0, 0)]
    split = np.pad(codes, room).reshape(*outer, -1, group, size)
    values = (split if signed else split + (1 << bits - 1)).astype(np.uint8)
    values &= np.uint8((1 << bits) - 1)
    if bits in (HALF, PART):
        return _joined(values, bits)
    low, high = values & np.uint8(15), values >> np.uint8(HALF)
    halves = [_joined(low[..., i : i + 2, :], HALF) for i in (0, 2)]
    return np.concatenate([*halves, _joined(high, PART)], -2)


def _joined(parts: Bytes, bits: int) -> Bytes:
    """Registers ``[..., n, size]`` of `bits` bits in one, ``[..., 1, size]``."""
    found = np.zeros_like(parts[..., :1, :])
    for i in range(parts.shape[-2]):
        found |= parts[..., i : i + 1, :] << np.uint8(bits * i)
    return found
