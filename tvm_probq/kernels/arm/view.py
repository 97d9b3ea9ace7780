"""A layer's shape as its kernel on ARM sees it: runs of bytes, blocks of four channels."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_probq.kernels.arm.unit import EIGHT, QUAD, VECTOR, ArmUnit, narrow_sums
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec

FOUR = 4


@dataclass(frozen=True)
class View:
    """The positions of a dense layer, and what the sum of one of them reads.

    Attributes
    ----------
    rows, columns : int
        Output positions; a flattened pointwise layer has one row.
    in_rows, row_bytes : int
        Input of one sample; here and below codes of 16 bits count as a byte.
    taps : tuple of int
        Kernel rows and columns that are read one by one: a kernel row is one run of bytes if the
        layer is neither grouped nor dilated, and the columns are 1 then.  Not so if weights have
        multipliers, those of a chunk are then of one group.
    run : int
        Bytes read for each tap and position.
    padded : int
        The same with zeros, up to what the instruction takes.
    column_bytes, tap_bytes : int
        From a position to the next, and from a tap of a kernel row to the next.
    copied : bool
        Whether rows are copied first: to pad them, for room behind the last byte of a run, or to
        unpack codes of 4 bits.
    """

    rows: int
    columns: int
    in_rows: int
    row_bytes: int
    taps: tuple[int, int]
    run: int
    padded: int
    column_bytes: int
    tap_bytes: int
    copied: bool

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """Start and length of what is read at once of a run: 16 bytes, then 8, then 4."""
        found = [(start, VECTOR) for start in range(0, self.padded - VECTOR + 1, VECTOR)]
        start = self.padded // VECTOR * VECTOR
        for length in (VECTOR // 2, FOUR):
            if self.padded - start >= length:
                found.append((start, length))
                start += length
        return found

    @property
    def products(self) -> int:
        """Products of a run in each lane of eight."""
        return -(-self.padded // EIGHT)

    @property
    def steps(self) -> int:
        """Runs of one position."""
        return self.taps[0] * self.taps[1]


def view_of(spec: LayerSpec, unit: ArmUnit) -> View:
    """The view of a dense layer."""
    if spec.depthwise:
        return _depthwise_view(spec)
    merged = spec.groups == 1 and spec.dilation[1] == 1 and not spec.weight_group
    run = (spec.kernel[1] if merged else 1) * spec.group_inputs
    taps = (spec.kernel[0], 1 if merged else spec.kernel[1])
    copied = any(spec.pads) or run % unit.grain != 0 or spec.in_bits == HALF
    rows, columns, height, width = (spec.out_height, spec.out_width, spec.height, spec.width)
    if spec.pointwise and not copied:
        rows, columns, height, width = 1, rows * columns, 1, height * width
    return View(
        rows, columns, height, width * spec.in_channels, taps, run,
        -(-run // unit.grain) * unit.grain, spec.strides[1] * spec.in_channels,
        spec.dilation[1] * spec.in_channels, copied,
    )  # fmt: skip


def _depthwise_view(spec: LayerSpec) -> View:
    """The view of a layer whose channels are read eight or sixteen at a time."""
    channels = spec.in_channels
    copied = any(spec.pads) or channels % (VECTOR // 2) != 0 or spec.in_bits == HALF
    return View(
        spec.out_height, spec.out_width, spec.height, spec.width * channels, spec.kernel, channels,
        channels, spec.strides[1] * channels, spec.dilation[1] * channels, copied,
    )  # fmt: skip


def narrow_runs(spec: LayerSpec, layout: View, unit: ArmUnit) -> int:
    """Runs of a dense layer whose products are added in 16 bits: none, one, or all of them."""
    most = narrow_sums(spec.weight_bits)
    wide = spec.weight_bits == 8 or spec.weight_group > 0
    if unit.instruction != "smull" or wide or layout.products > most:
        return 0
    return layout.steps if layout.products * layout.steps <= most else 1


def mnemonic(spec: LayerSpec, layout: View, unit: ArmUnit) -> str:
    """The instruction that the assembly of a layer's kernel must have.

    Products that are added in 16 bits are multiply-adds but for the first.
    """
    runs = 0 if spec.depthwise else narrow_runs(spec, layout, unit)
    return "smlal" if runs * len(layout.chunks) > 1 else unit.instruction


@dataclass(frozen=True)
class Block:
    """Output channels of a group that are summed up together.

    Attributes
    ----------
    quads : int
        Vectors of four channels.
    real : int
        Channels that are stored; the last vector may hold fewer than four.
    """

    quads: int
    real: int


def channel_blocks(channels: int, quads: int) -> tuple[int, Block, Block | None]:
    """How many whole blocks of `quads` vectors cover the channels, one of them, and what is left.

    A layer of fewer channels is one block, which counts as whole.
    """
    whole, rest = divmod(channels, quads * QUAD)
    left = Block(-(-rest // QUAD), rest) if rest else None
    if not whole and left is not None:
        return 1, left, None
    return whole, Block(quads, quads * QUAD), left
