"""What the code generator must know of an instruction set, and a layer's shape as it sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tvm
from tvm.target.codegen import target_has_features

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.amx_shape import INSTRUCTION, gains_by_gathering, suits_tiles

LANES = 16  # output channels of one block, on every instruction set
WORD = 16  # bits of a wide code


@dataclass(frozen=True)
class VectorUnit:
    """What the code generator must know of an instruction set.

    Attributes
    ----------
    step : int
        Input codes whose products one instruction adds up in each lane: 4 or 2.
    accumulators : int
        Blocks of 16 int32 sums that fit the registers beside the operands.
    instruction : str
        The dot product's mnemonic.
    lanes : int
        int32 lanes of a register.
    """

    step: int
    accumulators: int
    instruction: str
    lanes: int = LANES

    @property
    def room(self) -> int:
        """Blocks of sums and of weights that fit the registers beside two other operands."""
        registers = 32 if self.lanes == LANES else 16
        return (registers - 2) * self.lanes // LANES

    @property
    def wide(self) -> bool:
        """Whether codes and weights are multiplied as words, which bytes are widened to."""
        return self.instruction in ("vpdpwssd", "vpmaddwd", "pmaddwd")

    @property
    def packs(self) -> bool:
        """Whether codes are packed by 64: not where sums and codes would share the registers."""
        return self.tiles

    @property
    def tiles(self) -> bool:
        """Whether sums are made in tile registers."""
        return self.instruction == INSTRUCTION


def vector_unit(spec: LayerSpec, target: tvm.target.Target) -> VectorUnit:
    """The unit of an x86 `target` that computes the layer `spec`.

    Raises
    ------
    KernelError
        For a target that is no x86 CPU.
    """
    if not target_has_features("sse2", target):
        raise KernelError(
            "no integer kernels for this target",
            where=str(target),
            why="its instruction set is not x86",
            fix='use a target such as {"kind": "llvm", "mcpu": "znver4"}',
        )
    words = spec.in_bits == WORD
    if target_has_features("amx-int8", target) and suits_tiles(spec) and not words:
        return VectorUnit(4, 4, INSTRUCTION)
    dot = (2, "vpdpwssd") if words else (4, "vpdpbusd")
    if target_has_features("avx512vnni", target):
        # 16 accumulators are 1024 bytes: from there on TVM puts them on the heap, not in registers.
        return VectorUnit(dot[0], 15, dot[1])
    if target_has_features("avxvnni", target):
        return VectorUnit(dot[0], 6, dot[1], 8)
    pairs = (4, "vpmaddubsw") if spec.pairs_fit and not words else (2, "vpmaddwd")
    if target_has_features("avx512bw", target):
        return VectorUnit(pairs[0], 15, pairs[1])
    if target_has_features("avx2", target):
        return VectorUnit(pairs[0], 6, pairs[1], 8)
    return VectorUnit(2, 3, "pmaddwd", 4)


@dataclass(frozen=True)
class Geometry:
    """A convolution as the kernel sees it: rows of bytes, the channels of a pixel one by another.

    Attributes
    ----------
    rows, columns : int
        Output positions; a flattened pointwise layer has one row.
    in_rows, row_bytes : int
        View of the input of one sample.
    reduction : tuple of int
        Kernel rows, kernel columns, steps: a kernel row is one run of bytes if the layer is
        neither grouped nor dilated, and then the kernel columns are 1.
    gathered : int
        0, or the bytes of a kernel row of one output position, where those are copied to lie side
        by side: all positions are then one row of columns.
    """

    rows: int
    columns: int
    in_rows: int
    row_bytes: int
    reduction: tuple[int, int, int]
    gathered: int = 0


def geometry(spec: LayerSpec, unit: VectorUnit) -> Geometry:
    """The view of `spec` under `unit`."""
    merged = spec.groups == 1 and spec.dilation[1] == 1
    taps = spec.kernel[1] if merged else 1
    steps = -(-taps * spec.group_inputs // unit.step)
    reduction = (spec.kernel[0], 1 if merged else spec.kernel[1], steps)
    flatten = spec.pointwise and spec.group_inputs % unit.step == 0
    rows, columns, height, width = (spec.out_height, spec.out_width, spec.height, spec.width)
    if flatten:
        rows, columns, height, width = 1, rows * columns, 1, height * width
    elif unit.tiles and gains_by_gathering(spec):
        row_bytes, run = width * spec.in_channels, steps * unit.step
        return Geometry(1, rows * columns, height, row_bytes, reduction, run)
    return Geometry(rows, columns, height, width * spec.in_channels, reduction)


@dataclass(frozen=True)
class Channels:
    """Output channels as the kernel computes them: `groups` times `real`, padded to `padded`.

    Stages are indexed ``[n, g, c]`` with c below `padded`; lanes from `real` on are not stored.
    """

    groups: int
    real: int
    padded: int

    @property
    def lanes(self) -> int:
        """The widest vector that divides the real channels: what can be stored at once."""
        return math.gcd(self.real, 16)

    @property
    def vector(self) -> int:
        """Lanes computed at once: 16, or 8 where a padded ninth to fifteenth would be wasted."""
        return math.gcd(self.padded, 16)

    @property
    def exact(self) -> bool:
        """Whether no lane is padding."""
        return self.real == self.padded


def channel_layout(spec: LayerSpec) -> Channels:
    """Channels of a depthwise layer: vectors of 16 or 8, other counts padded to vectors of 16."""
    real = spec.out_channels
    return Channels(1, real, real if real % 8 == 0 else -(-real // LANES) * LANES)
