"""Which vector instructions a target has, and the loop sizes of a layer on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tvm
from tvm.target.codegen import target_has_features

from tvm_probq.kernels.spec import LayerSpec

LANES = 16  # output channels of one block, on every instruction set
SCRATCH_BYTES = 48 * 1024  # a padded row block of this size stays near the core
BLOCK_BYTES = 24 * 1024  # input of one task without scratch, read again for every channel block
MIN_TASKS = 4
LATENCY = 5  # cycles from one product of a sum to the next
SHORT_REDUCTION = 48  # products a sum: below, the epilogue shows
SHORT_TILE = 8
SHORT_COLUMNS = 0.3  # what a last, short column tile costs more than a whole one
PARALLEL_MACS = 1 << 20


@dataclass(frozen=True)
class VectorUnit:
    """What the code generator must know of an instruction set.

    Attributes
    ----------
    step : int
        Input bytes multiplied by one instruction: 4 with a dot product, 1 without.
    accumulators : int
        Blocks of 16 int32 sums that fit the registers beside the operands.
    instruction : str
        The dot product's mnemonic or "".
    """

    step: int
    accumulators: int
    instruction: str


def vector_unit(target: tvm.target.Target) -> VectorUnit:
    """The vector unit of an x86 `target`."""
    if target_has_features("avx512vnni", target):
        # 16 accumulators are 1024 bytes: from there on TVM puts them on the heap, not in registers.
        return VectorUnit(4, 15, "vpdpbusd")
    if target_has_features("avx512bw", target):
        return VectorUnit(1, 12, "")
    return VectorUnit(1, 6 if target_has_features("avx2", target) else 3, "")


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
    """

    rows: int
    columns: int
    in_rows: int
    row_bytes: int
    reduction: tuple[int, int, int]


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
    return Geometry(rows, columns, height, width * spec.in_channels, reduction)


@dataclass(frozen=True)
class Tile:
    """Loop sizes of one kernel; the result does not depend on them.

    Attributes
    ----------
    columns, blocks : int
        Register tile: output positions times blocks of 16 channels.
    rows, column_tiles : int
        Output rows and column tiles of one task.
    channel_tasks : int
        Tasks the channel blocks are split into.
    """

    columns: int
    blocks: int
    rows: int
    column_tiles: int
    channel_tasks: int


def default_tile(spec: LayerSpec, unit: VectorUnit) -> Tile:
    """A sound tile without any search."""
    if spec.depthwise:
        return depthwise_tile(spec, unit)
    view = geometry(spec, unit)
    columns, blocks = register_tile(
        view.columns, spec.group_outputs, unit, math.prod(view.reduction)
    )
    tiles = -(-view.columns // columns)
    row_bytes = (view.reduction[0] * spec.dilation[0], spec.in_channels)
    column_bytes = columns * spec.strides[1] * row_bytes[1]
    limit = SCRATCH_BYTES if any(spec.pads) else BLOCK_BYTES
    most = max(1, limit // (column_bytes * row_bytes[0]))
    wide = _divisor(tiles, most)
    wide = wide if 4 * wide >= min(most, tiles) else most  # a prime number of tiles, say
    used = column_bytes * wide * spec.strides[0]
    rows = _divisor(view.rows, max(1, limit // used - row_bytes[0] // spec.strides[0]))
    tasks = spec.batch * (view.rows // rows) * -(-tiles // wide)
    groups = -(-spec.group_outputs // (LANES * blocks))
    split = 1
    if spec.macs >= PARALLEL_MACS and spec.groups == 1 and tasks < MIN_TASKS:
        split = min((d for d in _divisors(groups) if d * tasks >= MIN_TASKS), default=groups)
    return Tile(columns, blocks, rows, wide, split)


def depthwise_tile(spec: LayerSpec, unit: VectorUnit) -> Tile:
    """A sound tile of a depthwise layer: one vector of channels, columns as equal as possible."""
    most = min(unit.accumulators, 14)
    columns = -(-spec.out_width // -(-spec.out_width // most))
    width = (spec.out_width * spec.strides[1] + spec.kernel[1]) * spec.in_channels
    limit = SCRATCH_BYTES // width // spec.strides[0] - spec.kernel[0] // spec.strides[0]
    rows = _divisor(spec.out_height, max(1, min(limit, 8)))
    return Tile(columns, 1, rows, -(-spec.out_width // columns), 1)


def register_tile(columns: int, channels: int, unit: VectorUnit, steps: int) -> tuple[int, int]:
    """(columns, channel blocks) of the register tile with the least expected time.

    Behind a short reduction (`steps` products a sum), small tiles are better: the processor works
    on the tail of one while the next one is summed up.
    """
    wanted = -(-channels // LANES)
    limit = min(unit.accumulators, SHORT_TILE if steps < SHORT_REDUCTION else unit.accumulators)
    best, choice = float("inf"), (1, 1)
    for blocks in range(1, min(wanted, unit.accumulators) + 1):
        for tall in range(1, min(columns, max(1, limit // blocks)) + 1):
            # A sum waits for its previous product, then operands are loaded.
            cycles = max(tall * blocks, LATENCY) + 0.2 * (tall + blocks)
            tiles = columns // tall + (1 + SHORT_COLUMNS if columns % tall else 0)
            time = tiles * -(-wanted // blocks) * cycles * (1.02 if columns % tall else 1.0)
            if time < best:
                best, choice = time, (tall, blocks)
    return choice


def channel_blocks(channels: int, blocks: int) -> int:
    """Blocks of 16 channels of one group, rounded up to whole register tiles."""
    return -(-channels // (LANES * blocks)) * blocks


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _divisor(n: int, limit: int) -> int:
    """The largest divisor of `n` up to `limit`."""
    return max(d for d in _divisors(n) if d <= limit)
