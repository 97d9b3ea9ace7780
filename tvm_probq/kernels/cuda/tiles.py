"""Sizes of the tiles of a layer's product of matrices on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

PROCESSORS = 64  # multiprocessors that a layer is to keep busy
STEP_COST = 1024  # of a block's start, in elements of a tile
DEPTH, PITCH = 64, 80  # bytes of the sums at once, and of a row in shared memory
CHANNEL_BYTES = 32  # of what the epilogue keeps for a channel
SHARED_BYTES = 48 << 10  # static shared memory of a block
MAX_THREADS, WARP = 1024, 32
WARPS, THREADS = 4, 128  # of a block with a warp for each channel, of depthwise positions
FEW = 8  # samples of one position that a warp for each channel serves


@dataclass(frozen=True)
class BlockTile:
    """Positions times channels of a thread block, and of each of its warps.

    In a `Tile` these are, in this order, `columns`, `blocks`, `rows` and `column_tiles`.  Of layers
    that are no products of matrices `columns` alone counts: the threads of a block of a depthwise
    layer, the warps of a block with a warp for each channel.
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return WARP * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return 2 * PITCH * (self.rows + self.columns) + CHANNEL_BYTES * self.columns

    @property
    def accumulators(self) -> int:
        """Sums of a thread, in registers."""
        return self.warp_rows * self.warp_columns // WARP

    def as_tile(self) -> Tile:
        """In the form that all architectures share."""
        return Tile(self.rows, self.columns, self.warp_rows, self.warp_columns, 1)

    @staticmethod
    def of(tile: Tile) -> BlockTile:
        """Back from that form."""
        return BlockTile(tile.columns, tile.blocks, tile.rows, tile.column_tiles)


CANDIDATES = (
    BlockTile(128, 128, 64, 32),
    BlockTile(128, 64, 32, 32),
    BlockTile(64, 128, 32, 32),
    BlockTile(64, 64, 32, 32),
    BlockTile(128, 32, 32, 32),
    BlockTile(64, 32, 32, 16),
    BlockTile(32, 64, 16, 32),
    BlockTile(32, 32, 16, 16),
)


def rows_of(spec: LayerSpec) -> tuple[int, int]:
    """Rows of a product of matrices, and the number of products.

    Samples of one position are the rows of one product.
    """
    positions = spec.out_height * spec.out_width
    return (spec.batch, 1) if positions == 1 else (positions, spec.batch)


def by_vectors(spec: LayerSpec) -> bool:
    """Whether a warp makes each output channel: a tile would have no rows to fill it."""
    return not spec.depthwise and spec.out_height * spec.out_width == 1 and spec.batch <= FEW


def blocks_of(spec: LayerSpec, tile: BlockTile) -> tuple[int, int, int]:
    """The grid."""
    rows, products = rows_of(spec)
    across = spec.groups * -(-spec.group_outputs // tile.columns)
    return -(-rows // tile.rows), across, products


def default_tile(spec: LayerSpec) -> Tile:
    """The tile of least estimated time: rounds of blocks on all multiprocessors."""
    if spec.depthwise or by_vectors(spec):
        return Tile(THREADS if spec.depthwise else WARPS, 1, 1, 1, 1)

    def cost(tile: BlockTile) -> int:
        down, across, products = blocks_of(spec, tile)
        rounds = -(-down * across * products // PROCESSORS)
        return rounds * (tile.rows * tile.columns + STEP_COST)

    return min(CANDIDATES, key=cost).as_tile()


def check_tile(spec: LayerSpec, tile: BlockTile) -> None:
    """Raise `KernelError` for a tile that does not fit a block.

    Raises
    ------
    KernelError
        If sizes do not divide each other, or memory or threads do not suffice.
    """
    whole = not (tile.rows % tile.warp_rows or tile.columns % tile.warp_columns)
    whole = whole and not (tile.warp_rows % 16 or tile.warp_columns % 8)
    problems = [
        (not whole, "warps do not divide the tile, or are no multiples of 16 times 8"),
        (tile.columns % 16 > 0, "codes leave a block 16 at a time"),
        (tile.shared_bytes > SHARED_BYTES, f"{tile.shared_bytes} bytes of shared memory"),
        (tile.threads > MAX_THREADS, f"{tile.threads} threads"),
        (tile.columns > 2 * PITCH, f"{tile.columns} channels, whose codes fit no tile of inputs"),
        (tile.accumulators > 128, f"{tile.accumulators} sums of a thread"),
    ]
    for wrong, why in problems:
        if wrong:
            raise KernelError(
                "the tile does not fit a thread block", where=str(spec), why=why,
                fix="use default_tile",
            )  # fmt: skip
