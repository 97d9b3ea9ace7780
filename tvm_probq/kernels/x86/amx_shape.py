"""How a convolution is cut into the tiles of AMX: eight registers of 16 rows of 64 bytes.

A tile of inputs has one output position a row and up to 64 bytes of one kernel row, a tile of
weights has 16 output channels times the same bytes, a tile of sums has positions times channels.
Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from tvm_probq.kernels.spec import LayerSpec

TILE_ROWS = 16
TILE_STEPS = 16  # of 4 bytes
ROW_BYTES = 4 * TILE_STEPS
TILES = 8
MIN_POSITIONS = 4
MOST_BLOCKS = 3  # whose weights leave a register for sums and one for inputs
GATHER_CHANNELS = 128  # that read what was copied, to make up for it
NEAR_BYTES = 32 * 1024  # of a register tile's inputs or weights that stay in the first cache
INSTRUCTION = "tdpbusd"


@dataclass(frozen=True)
class Chunks:
    """A run of `steps` times 4 bytes, read as `count` pieces of `length` steps.

    The last piece ends where the run ends, so that nothing behind it is read; what it shares with
    the piece before has weights of 0.
    """

    steps: int
    count: int
    length: int

    @staticmethod
    def of(steps: int) -> Chunks:
        """As few pieces as fit a tile's row, of nearly equal length."""
        count = -(-steps // TILE_STEPS)
        return Chunks(steps, count, -(-steps // count))

    @property
    def shared(self) -> int:
        """Steps at the start of the last piece that the piece before has read."""
        return self.count * self.length - self.steps


@dataclass(frozen=True)
class RegisterTile:
    """The sums computed together: `rows` times `columns` output positions, `blocks` of 16 channels.

    Attributes
    ----------
    height : int
        Positions of a tile; they lie in one row of the output.
    starts : tuple of (int, int)
        Row and column of the first position of each tile; tiles of a row may overlap.
    """

    blocks: int
    height: int
    starts: tuple[tuple[int, int], ...]

    @staticmethod
    def of(rows: int, columns: int, blocks: int) -> RegisterTile:
        """Cut each row into tiles of equal height, the last of which ends where the row ends."""
        count = -(-columns // TILE_ROWS)
        height = -(-columns // count)
        starts = (min(i * height, columns - height) for i in range(count))
        return RegisterTile(blocks, height, tuple(product(range(rows), starts)))

    @property
    def passes(self) -> list[tuple[tuple[int, int], ...]]:
        """The starts of the tiles whose sums have registers at the same time."""
        most = max(1, (TILES - 1 - self.blocks) // self.blocks)
        count = -(-len(self.starts) // most)
        size = -(-len(self.starts) // count)
        return [self.starts[i : i + size] for i in range(0, len(self.starts), size)]

    def sums(self, i: int, block: int) -> int:
        """Register of the sums of a pass's tile `i` and channel block `block`."""
        return self.blocks + i * self.blocks + block

    def weights(self, block: int) -> int:
        """Register of the weights of channel block `block`."""
        return block

    def inputs(self, i: int) -> int:
        """Register of the inputs of a pass's tile `i`: those that are left take turns."""
        first = self.sums(max(map(len, self.passes)), 0)
        return first + i % (TILES - first)


def gains_by_gathering(spec: LayerSpec) -> bool:
    """Whether output rows are so short that it pays to copy the inputs of all positions together.

    Tiles are then full, and weights are read once for several rows.
    """
    narrow = 2 * spec.out_width <= TILE_ROWS and spec.out_height > 1
    whole = spec.dilation == (1, 1) and spec.in_channels % ROW_BYTES == 0
    return narrow and whole and spec.out_channels >= GATHER_CHANNELS


def suits_tiles(spec: LayerSpec) -> bool:
    """Whether AMX computes the layer: no groups, enough positions for a tile."""
    return spec.groups == 1 and spec.out_height * spec.out_width >= MIN_POSITIONS
