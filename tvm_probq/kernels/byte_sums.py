"""How a target adds up codes and their squares."""

from __future__ import annotations

import tvm

from tvm_probq.kernels.arm.byte_sums import arm_sums
from tvm_probq.kernels.small.byte_dots import ByteSums
from tvm_probq.kernels.small.machine import is_arm
from tvm_probq.kernels.x86.byte_dot import byte_dot


def byte_sums(target: tvm.target.Target) -> ByteSums | None:
    """What a target has for sums of bytes and of their squares, None for plain code."""
    return arm_sums(target) if is_arm(target) else byte_dot(target)
