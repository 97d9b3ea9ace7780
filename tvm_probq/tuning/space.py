"""The design space of a layer, on every architecture: its sound tiles, the default one first."""

from __future__ import annotations

from typing import Protocol

import tvm

from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.kernels.layer import layer_maker
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.maker import X86Maker
from tvm_probq.tuning.extent import Extent
from tvm_probq.tuning.space_arm import ArmSpace
from tvm_probq.tuning.space_cuda import CudaSpace
from tvm_probq.tuning.space_x86 import X86Space


class Space(Protocol):
    """The tiles of one layer on one architecture.

    Attributes
    ----------
    spec : LayerSpec
        The layer.
    default : Tile
        What the fixed rule gives.
    """

    spec: LayerSpec
    default: Tile

    @property
    def extent(self) -> Extent:
        """The layer as its kernels see it."""

    def tiles(self) -> list[Tile]:
        """Every tile that the kernel can be built with, without repetition, the default first."""

    def scratch_bytes(self, tile: Tile) -> int:
        """Estimate the bytes of input that one task reads, which is what a copying one copies."""

    def task_count(self, tile: Tile) -> int:
        """Count what can run in parallel."""


def space_of(spec: LayerSpec, target: tvm.target.Target) -> Space:
    """Give the space of a layer.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernel is generated for.

    Raises
    ------
    KernelError
        For a target of an architecture without integer kernels.
    """
    if is_cuda(target):
        return CudaSpace(spec, target)
    on_x86 = isinstance(layer_maker(target), X86Maker)
    return X86Space(spec, target) if on_x86 else ArmSpace(spec, target)


def tiles_of(spec: LayerSpec, target: tvm.target.Target) -> list[Tile]:
    """Give the tiles that a layer's kernel can be built with, the default first."""
    return space_of(spec, target).tiles()
