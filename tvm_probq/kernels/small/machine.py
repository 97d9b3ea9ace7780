"""What small kernels know of the target: that which is in force, by ``with target:``, if any.

The results are the same for all: only the choice of instructions and of vectors depends on it.
"""

from __future__ import annotations

import functools

from tvm.target import Target
from tvm.target.codegen import target_has_features

WIDE, WIDE_ON_ARM = 64, 32  # lanes of running vectors, two of which fit the registers
ACCUMULATORS, ACCUMULATORS_ON_ARM = 16, 4  # running vectors of 16 lanes that do


def on_arm() -> bool:
    """Whether kernels are made for 64-bit ARM."""
    target = Target.current(allow_none=True)
    return target is not None and is_arm(target)


def wide() -> int:
    """Lanes of the widest vectors."""
    return WIDE_ON_ARM if on_arm() else WIDE


def accumulators() -> int:
    """Vectors of 16 lanes that registers hold while others are read."""
    return ACCUMULATORS_ON_ARM if on_arm() else ACCUMULATORS


def is_arm(target: Target) -> bool:
    """Whether a target is 64-bit ARM with NEON; the names of its features do not tell 32 bits."""
    return _is_arm(str(target))


@functools.cache
def _is_arm(target: str) -> bool:
    made = Target(target)
    return bool(made.features.is_aarch64) and bool(target_has_features("neon", made))
