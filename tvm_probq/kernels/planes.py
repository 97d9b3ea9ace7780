"""Codes of 6, 4 and 2 bits in bytes: registers of a group share planes of their bits.

Unpacking is loads one behind the other, shifts and masks, whatever the length of a register:

====  =========  =================================================================================
bits  registers  planes of two's complement
====  =========  =================================================================================
4     2          one: the first register in the lower halves of the bytes, the second in the upper
2     4          one: two bits of each register, the first in the lowest
6     4          three: each has a register in its upper six bits; the fourth one has its two
                 highest bits at the bottom of the first plane, then of the second, of the third
====  =========  =================================================================================
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


def pack_planes(codes: Codes, bits: int) -> Bytes:
    """Put registers of codes into planes.

    Parameters
    ----------
    codes : ndarray of int8, shape [..., registers, size]
        Codes, of which the lower `bits` bits are kept; zeros are added up to whole groups.
    bits : int
        6, 4 or 2.

    Returns
    -------
    ndarray of uint8, shape [..., groups, planes, size]
    """
    *outer, registers, size = codes.shape
    group = GROUPS[bits]
    missing = grouped(registers, bits) * group - registers
    room = [(0, 0)] * len(outer) + [(0, missing), (0, 0)]
    split = np.pad(codes, room).reshape(*outer, -1, group, size)
    values = split.astype(np.uint8) & np.uint8((1 << bits) - 1)
    found = np.zeros((*values.shape[:-2], planes_of(bits), size), np.uint8)
    if bits in (HALF, PART):
        for i in range(group):
            found[..., 0, :] |= values[..., i, :] << np.uint8(bits * i)
        return found
    for i in range(planes_of(bits)):
        last = values[..., 3, :] >> np.uint8(HALF - PART * i) & np.uint8(3)
        found[..., i, :] = values[..., i, :] << np.uint8(PART) | last
    return found
