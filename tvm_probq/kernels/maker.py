"""What makes kernels of layers for one architecture."""

from __future__ import annotations

from typing import Protocol

from tvm_probq.kernels.codes import Codes, Packed
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile


class Maker(Protocol):
    """Kernels of an architecture; specifications and codes were checked before."""

    def default_tile(self, spec: LayerSpec) -> Tile:
        """A sound tile without any search."""

    def kernel(self, spec: LayerSpec, tile: Tile) -> Kernel:
        """The kernel of a layer."""

    def packed_shape(self, spec: LayerSpec, tile: Tile) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of its argument W."""

    def pack(self, spec: LayerSpec, weights: Codes, tile: Tile) -> Packed:
        """Codes ``[OC, KH, KW, IC / groups]`` in that shape."""
