"""The loop sizes of a kernel, on every architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """Loop sizes of one kernel; the result does not depend on them.

    Attributes
    ----------
    columns, blocks : int
        Register tile: output positions times blocks of channels, 16 on x86 and 4 on ARM.
    rows, column_tiles : int
        Output rows and column tiles of one task.
    channel_tasks : int
        Tasks the channel blocks are split into.
    tile_rows : int
        Output rows of the register tile, a divisor of `rows`; more than 1 only in tile registers.
    trace : str
        A schedule of MetaSchedule, as JSON, in the place of the template's; the sizes then only
        decide the layout of weights and padding.
    """

    columns: int
    blocks: int
    rows: int
    column_tiles: int
    channel_tasks: int
    tile_rows: int = 1
    trace: str = ""
