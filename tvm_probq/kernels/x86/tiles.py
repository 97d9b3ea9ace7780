"""The loop sizes of a kernel: a fixed rule, sound without any search."""

from __future__ import annotations

import math
from itertools import product

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx_shape import MOST_BLOCKS, NEAR_BYTES, TILE_ROWS, Chunks, RegisterTile
from tvm_probq.kernels.x86.geometry import (
    LANES,
    WORD,
    Geometry,
    VectorUnit,
    channel_layout,
    geometry,
)

SCRATCH_BYTES = 48 * 1024  # a padded row block of this size stays near the core
BLOCK_BYTES = 24 * 1024  # input of one task without scratch, read again for every channel block
MIN_TASKS = 4
LATENCY = 5  # cycles from one product of a sum to the next
OPERANDS = 0.2, 0.2  # time of loading codes of a column, weights of a block, against a product
NARROW_OPERANDS = 0.1, 0.8  # the same with registers of 8 sums: a block's weights are two
SHORT_REDUCTION = 48  # products a sum: below, the epilogue shows
SHORT_TILE = 8
DOT_COLUMNS, PLAIN_COLUMNS = 8, 14  # of a depthwise layer with and without dot products
FEW_COLUMNS = 4  # of one without, where 16 registers hold sums of 8 lanes and all taps' weights
SHORT_COLUMNS = 0.3  # what a last, short column tile costs more than a whole one
PARALLEL_MACS = 1 << 20
DEPTHWISE_PARALLEL_MACS = 1 << 18  # a quarter of a dense layer's speed
MIN_TILED_TASKS = 2  # of a layer in tiles, which is done in tens of microseconds
PRODUCT_CYCLES = 16  # of a tile register of AMX
NEAR_CYCLES, FAR_CYCLES = 1.0, 2.0  # to load a row of one from the first or the second cache
PASS_SHARE = 0.1  # what each further pass costs a register tile of AMX
TILE_OVERHEAD = 40  # cycles to start a pass of AMX and to store its sums
MOST_POSITIONS = 64  # of a register tile: 4 KiB of sums for each channel block
TALL, TALL_DOTS = 8, 14  # rows of a depthwise task
PART_CHANNELS = 48  # of a depthwise task at least
QUADS_BYTES = 20 * 1024  # interleaved pixels, beside weights and outputs in the first cache


def default_tile(spec: LayerSpec, unit: VectorUnit) -> Tile:
    """A sound tile without any search."""
    if spec.depthwise:
        return depthwise_tile(spec, unit, dots_fit(spec, unit))
    view = geometry(spec, unit)
    if unit.tiles:
        return _matrix_task(spec, view, *matrix_tile(spec, view))
    columns, blocks = register_tile(
        view.columns, spec.group_outputs, unit, math.prod(view.reduction)
    )
    tiles = -(-view.columns // columns)
    row_bytes = (view.reduction[0] * spec.dilation[0], spec.in_channels)
    column_bytes = columns * spec.strides[1] * row_bytes[1]
    limit = SCRATCH_BYTES if any(spec.pads) or unit.wide else BLOCK_BYTES
    limit = limit // 2 if unit.wide else limit
    most = max(1, limit // (column_bytes * row_bytes[0]))
    wide = _divisor(tiles, most)
    if 4 * wide < min(most, tiles):  # a prime number of tiles, say
        wide = most
    used = column_bytes * wide * spec.strides[0]
    rows = _divisor(view.rows, max(1, limit // used - row_bytes[0] // spec.strides[0]))
    tasks = spec.batch * (view.rows // rows) * -(-tiles // wide)
    return Tile(columns, blocks, rows, wide, _channel_tasks(spec, blocks, tasks, MIN_TASKS))


def _matrix_task(
    spec: LayerSpec, view: Geometry, tile_rows: int, columns: int, blocks: int
) -> Tile:  # fmt: skip
    """The tile of AMX whose tasks read the least from the second cache.

    Each task reads all weights, and its inputs again for every channel block unless they stay near.
    """
    weights, groups = math.prod(view.reduction) * 4 * LANES * blocks, _groups(spec, blocks)
    across, down = view.columns // columns, view.rows // tile_rows
    best, choice = math.inf, (1, 1)
    for high, wide in product(_divisors(down), _divisors(across)):
        if high > 1 and wide < across:
            continue
        inputs = _input_bytes(spec, view, high * tile_rows, wide * columns)
        tasks = (down // high) * (across // wide)
        again = groups if inputs > NEAR_BYTES else 1
        read = tasks * inputs * again
        if weights * groups > NEAR_BYTES:
            single = high * wide == 1  # register tile: none is left to fetch weights ahead
            read += tasks * weights * groups * (2 if single else 1)
        if read < best:
            best, choice = read, (high * tile_rows, wide)
    rows, wide = choice
    tasks = spec.batch * (view.rows // rows) * (across // wide)
    split = _channel_tasks(spec, blocks, tasks, MIN_TILED_TASKS)
    return Tile(columns, blocks, rows, wide, split, tile_rows)


def _input_bytes(spec: LayerSpec, view: Geometry, rows: int, columns: int) -> int:
    """Bytes of the input rows that these output positions read."""
    in_rows = (rows - 1) * spec.strides[0] + (view.reduction[0] - 1) * spec.dilation[0] + 1
    return in_rows * columns * (view.gathered or spec.strides[1] * spec.in_channels)


def _groups(spec: LayerSpec, blocks: int) -> int:
    """Register tiles side by side that cover the output channels of a group."""
    return -(-spec.group_outputs // (LANES * blocks))


def _channel_tasks(spec: LayerSpec, blocks: int, tasks: int, fewest: int) -> int:
    """Tasks that the channel blocks of a large layer are split into, for at least `fewest`."""
    if spec.macs < PARALLEL_MACS or spec.groups > 1 or tasks >= fewest:
        return 1
    groups = _groups(spec, blocks)
    return min((d for d in _divisors(groups) if d * tasks >= fewest), default=groups)


def quads(spec: LayerSpec, unit: VectorUnit) -> int:
    """Groups of taps, fours or twos, of one kernel row."""
    return -(-spec.kernel[1] // unit.step)


def dots_fit(spec: LayerSpec, unit: VectorUnit) -> bool:
    """Whether a depthwise layer of 8-bit codes gains by interleaving pixels for the dot product.

    Columns must share the interleaved pixels; strided 3x3 kernels use each of them too rarely.
    """
    shared = quads(spec, unit) == 1 or unit.step % spec.strides[1] == 0
    pays = spec.strides == (1, 1) or min(spec.kernel) > 3
    return spec.dilation[1] == 1 and shared and pays and spec.in_bits < WORD


def depthwise_tile(spec: LayerSpec, unit: VectorUnit, dots: bool) -> Tile:
    """A sound tile of a depthwise layer: columns as equal as possible, rows that fit the cache."""
    plain = PLAIN_COLUMNS if unit.lanes == LANES else FEW_COLUMNS
    most = min(unit.accumulators, DOT_COLUMNS if dots else plain)
    columns = -(-spec.out_width // -(-spec.out_width // most))
    tiles = -(-spec.out_width // columns)
    parts = channel_parts(spec) if dots else 1
    width = _scratch_row(spec) // parts
    limit = SCRATCH_BYTES // width // spec.strides[0] - spec.kernel[0] // spec.strides[0]
    rows = _divisor(spec.out_height, max(1, min(limit, TALL_DOTS if dots else TALL)))
    in_rows = (rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    wide = _divisor(tiles, max(1, QUADS_BYTES // (in_rows * columns * LANES * 4)))
    return Tile(columns, 1, rows, wide if dots else tiles, parts)


def channel_parts(spec: LayerSpec) -> int:
    """Least number of tasks for the channels whose padded rows fit near the core.

    Neighbouring row blocks interleave the rows that they share twice, so they should be tall.
    """
    layout = channel_layout(spec)
    tall = min(TALL_DOTS, spec.out_height) * spec.strides[0] + spec.kernel[0]
    most = max(1, layout.padded // PART_CHANNELS)
    parts = [d for d in _divisors(layout.padded // layout.vector) if d <= most]
    fitting = [d for d in parts if tall * _scratch_row(spec) // d <= SCRATCH_BYTES]
    return min(fitting, default=parts[-1])


def _scratch_row(spec: LayerSpec) -> int:
    """Bytes of a padded row of all channels."""
    codes = (spec.out_width * spec.strides[1] + spec.kernel[1]) * spec.in_channels
    return 2 * codes if spec.in_bits == WORD else codes


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
            if tall > 1 and (tall + 1) * blocks > unit.room:
                break
            cycles, rest = _step_cycles(unit, tall, blocks), columns % tall
            last = (1 + SHORT_COLUMNS) * cycles if rest else 0.0
            if rest and unit.lanes < LANES:
                last = _step_cycles(unit, rest, blocks)
            time = (columns // tall * cycles + last) * -(-wanted // blocks)
            time *= 1.02 if rest else 1.0
            if time < best:
                best, choice = time, (tall, blocks)
    return choice


def _step_cycles(unit: VectorUnit, tall: int, blocks: int) -> float:
    """Expected time of one step of a register tile, in products of a block of 16 sums."""
    # A sum waits for its previous product, or, where products are added apart, hardly at all.
    waits = LATENCY if unit.instruction.startswith("vpdp") else 1
    codes, weights = OPERANDS if unit.lanes == LANES else NARROW_OPERANDS
    return max(tall * blocks, waits) + codes * tall + weights * blocks


def matrix_tile(spec: LayerSpec, view: Geometry) -> tuple[int, int, int]:
    """(rows, columns, channel blocks) of the register tile of AMX with the least expected time."""
    wanted = -(-spec.group_outputs // LANES)
    most = MOST_POSITIONS
    if view.columns > most and _divisor(view.columns, most) < TILE_ROWS // 2:  # a prime, say
        most = min(d for d in _divisors(view.columns) if d > most)
    best, choice = float("inf"), (1, 1, 1)
    for rows, columns, blocks in product(
        _divisors(view.rows), _divisors(view.columns), range(1, min(wanted, MOST_BLOCKS) + 1)
    ):
        if rows * columns > most or (rows > 1 and columns < view.columns):
            continue
        tiles = view.rows * view.columns // (rows * columns) * -(-wanted // blocks)
        time = tiles * matrix_cycles(spec, view, rows, columns, blocks)
        if time < best:
            best, choice = time, (rows, columns, blocks)
    return choice


def matrix_cycles(
    spec: LayerSpec, view: Geometry, rows: int, columns: int, blocks: int
) -> float:  # fmt: skip
    """Expected cycles of one register tile: products and loads at the same time."""
    chunks = Chunks.of(view.reduction[2])
    pieces = view.reduction[0] * view.reduction[1] * chunks.count
    tile = RegisterTile.of(rows, columns, blocks)
    inputs = _load_cycles(_input_bytes(spec, view, rows, columns)) * tile.height
    weights = _load_cycles(pieces * chunks.length * 4 * LANES * blocks) * chunks.length
    cycles = 0.0
    for starts in tile.passes:
        products = len(starts) * blocks * PRODUCT_CYCLES
        loads = len(starts) * inputs + blocks * weights
        cycles += pieces * max(products, loads) + TILE_OVERHEAD
    return cycles * (1 + PASS_SHARE * (len(tile.passes) - 1))


def _load_cycles(size_bytes: int) -> float:
    """Cycles to load a row of a tile that is one of `size_bytes` read again and again."""
    return NEAR_CYCLES if size_bytes <= NEAR_BYTES else FAR_CYCLES


def channel_blocks(channels: int, blocks: int) -> int:
    """Blocks of 16 channels of one group, rounded up to whole register tiles."""
    return -(-channels // (LANES * blocks)) * blocks


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _divisor(n: int, limit: int) -> int:
    """The largest divisor of `n` up to `limit`."""
    return max(d for d in _divisors(n) if d <= limit)
