"""The loop sizes of a kernel on ARM: the least instructions by an estimate, without any search."""

from __future__ import annotations

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arm.source import copied_rows
from tvm_probq.kernels.arm.unit import QUAD, VECTOR, WORD, ArmUnit
from tvm_probq.kernels.arm.view import View, channel_blocks
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

REGISTERS = 32
SCRATCH_BYTES = 32 * 1024  # a copy of this size stays in the first cache
BLOCK_BYTES = 24 * 1024  # input of one task without a copy, read again for every channel block
MIN_TASKS = 4
PARALLEL_MACS = 1 << 20
LOAD = 0.6  # instructions a register of weights takes: most come in pairs
LOOP = 4  # instructions that go round a loop
EPILOGUE = 7  # instructions for four values
DEPTHWISE_COLUMNS = 4


def default_tile(spec: LayerSpec, layout: View, unit: ArmUnit) -> Tile:
    """A sound tile of a dense layer."""
    columns, quads = register_tile(spec, layout, unit)
    rows, wide = layout.rows, layout.columns // columns
    if layout.copied:
        rows = _rows(spec, layout)
    elif layout.rows == 1:
        column_bytes = columns * spec.in_channels * code_bytes(spec)
        wide = _divisor(max(1, wide), max(1, BLOCK_BYTES // column_bytes))
    else:
        row_bytes = spec.strides[0] * layout.row_bytes * code_bytes(spec)
        rows = _divisor(rows, max(1, BLOCK_BYTES // row_bytes))
    wide = max(1, wide)
    tasks = spec.batch * (layout.rows // rows) * max(1, layout.columns // (columns * wide))
    return Tile(columns, quads, rows, wide, _channel_tasks(spec, quads, tasks))


def depthwise_tile(spec: LayerSpec, layout: View) -> Tile:
    """A sound tile of a depthwise layer."""
    count = -(-spec.out_width // DEPTHWISE_COLUMNS)
    columns = -(-spec.out_width // count)
    return Tile(columns, 1, _rows(spec, layout), max(1, spec.out_width // columns), 1)


def register_tile(spec: LayerSpec, layout: View, unit: ArmUnit) -> tuple[int, int]:
    """(columns, blocks of four channels) with the fewest expected instructions."""
    best, choice = float("inf"), (1, 1)
    for quads in range(1, -(-spec.group_outputs // QUAD) + 1):
        if not fits(layout, unit, 1, quads):
            break
        for columns in range(1, layout.columns + 1):
            if not fits(layout, unit, columns, quads):
                break
            found = _instructions(spec, layout, unit, columns, quads)
            if found < best:
                best, choice = found, (columns, quads)
    return choice


def fits(layout: View, unit: ArmUnit, columns: int, quads: int) -> bool:
    """Whether sums and operands of a register tile fit the registers."""
    # Products of 16 bits wait in registers of their own, several at a time.
    operands = {"sdot": columns + 2, "smmla": columns + 2, "smull": columns + 7}
    operands["smlal"] = 2 * columns + 4  # words and widened weights take two each
    flips = 0 if layout.copied else 1
    needed = unit.registers(columns, quads) + operands[unit.instruction] + flips
    return needed <= REGISTERS


def check_tile(spec: LayerSpec, layout: View, tile: Tile) -> None:
    """Raise `KernelError` unless the tasks of a tile divide the layer.

    Raises
    ------
    KernelError
        With what is not divided.
    """
    tiles, blocks = layout.columns // tile.columns, 1
    if not spec.depthwise:
        blocks, _, _ = channel_blocks(spec.group_outputs, tile.blocks)
    parts = {
        "rows": (layout.rows, tile.rows),
        "column tiles": (max(1, tiles), tile.column_tiles),
        "channel blocks": (blocks, tile.channel_tasks),
    }
    for name, (count, each) in parts.items():
        if count % each:
            raise KernelError(
                "the tile does not divide the layer", where=str(spec),
                why=f"{count} {name} are not tasks of {each}", fix="take a divisor",
            )  # fmt: skip


def _instructions(
    spec: LayerSpec, layout: View, unit: ArmUnit, columns: int, quads: int
) -> float:  # fmt: skip
    """Expected instructions for all positions and channels of a row."""
    count, whole, left = channel_blocks(spec.group_outputs, quads)
    tiles, rest = divmod(layout.columns, columns)
    total = 0.0
    for blocks, block in ((count, whole), (1, left)):
        if block is not None:
            total += blocks * tiles * _tile_instructions(layout, unit, columns, block.quads)
            if rest:
                total += blocks * _tile_instructions(layout, unit, rest, block.quads)
    return total


def _tile_instructions(layout: View, unit: ArmUnit, columns: int, quads: int) -> float:
    """Expected instructions of a register tile."""
    codes = columns * (1 if layout.copied else 2)
    pairs = -(-columns // 2)
    products, finish = 4.0 * columns * quads, 0
    if unit.instruction == "smmla":
        codes, products, finish = codes + 2 * pairs, 4.0 * pairs * quads, 2
    elif unit.instruction == "smull":
        products, finish = (3.0 if unit.pairs else 4.0) * QUAD * columns * quads, 4
    elif unit.instruction == "smlal":
        codes, products, finish = 2 * columns, (4.0 * columns + 2) * QUAD * quads, 4
    chunks = layout.padded / VECTOR
    each = codes + QUAD * quads * LOAD + products
    rounds = len(layout.chunks)
    return layout.steps * (chunks * each + LOOP * rounds) + columns * quads * (EPILOGUE + finish)


def _rows(spec: LayerSpec, layout: View) -> int:
    """Output rows whose copied input stays near the core."""
    for rows in sorted(_divisors(spec.out_height), reverse=True):
        high, wide = copied_rows(spec, layout, rows)
        if high * wide * code_bytes(spec) <= SCRATCH_BYTES:
            return rows
    return 1


def code_bytes(spec: LayerSpec) -> int:
    """Bytes of a code of the input, or of its copy."""
    return 2 if spec.in_bits == WORD else 1


def _channel_tasks(spec: LayerSpec, quads: int, tasks: int) -> int:
    """Tasks that the channel blocks of a large layer are split into, for at least `MIN_TASKS`."""
    count, _, left = channel_blocks(spec.group_outputs, quads)
    if spec.macs < PARALLEL_MACS or spec.groups > 1 or tasks >= MIN_TASKS or left is not None:
        return 1
    return min((d for d in _divisors(count) if d * tasks >= MIN_TASKS), default=count)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _divisor(n: int, limit: int) -> int:
    """The largest divisor of `n` up to `limit`."""
    return max(d for d in _divisors(n) if d <= limit)
