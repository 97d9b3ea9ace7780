"""A convolution's meaning as a TE workload, over views that make its memory order explicit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype, codes_shape
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.amx_shape import Chunks
from tvm_probq.kernels.x86.epilogue import Epilogue
from tvm_probq.kernels.x86.geometry import (
    LANES,
    WORD,
    Channels,
    Geometry,
    VectorUnit,
    geometry,
)
from tvm_probq.kernels.x86.halves import (
    half_of,
    packed_output,
    unpacked_residual,
    writes_halves,
)
from tvm_probq.kernels.x86.narrow import packed_positions
from tvm_probq.kernels.x86.run_sums import run_total
from tvm_probq.kernels.x86.tiles import channel_blocks
from tvm_probq.kernels.x86.unpacking import (
    Weights,
    packed_weights,
    scaled_bits,
    unpacks_on_the_way,
)


@dataclass(frozen=True)
class Workload:
    """An unscheduled kernel over views of its arguments.

    Attributes
    ----------
    func : tirx.PrimFunc
        Blocks "pad" (optional), the vectors of `Epilogue`, "conv", "value", "out" (optional).
    padded : bool
        Whether there is a scratch block "pad" of codes, of 8 bits or widened to 16.
    channels : Channels
        Layout of the output channels.
    vectors : tuple of str
        Blocks of the vectors of `Epilogue`.
    packed : int
        Output positions whose codes are packed together, by a block "codes" and one "floor".
    scaled : bool
        Whether there is a block "descaled", which shifts sums to the right.
    runs : bool
        Whether "conv" adds up multiplied sums of the block "run".
    """

    func: tirx.PrimFunc
    padded: bool
    channels: Channels
    vectors: tuple[str, ...]
    packed: int = 0
    scaled: bool = False
    runs: bool = False


def conv_workload(spec: LayerSpec, unit: VectorUnit, tile: Tile) -> Workload:
    """The workload of `spec` with the channel padding of `tile`."""
    view = geometry(spec, unit)
    blocks = channel_blocks(spec.group_outputs, tile.blocks)
    channels = Channels(spec.groups, spec.group_outputs, blocks * LANES)
    epilogue = Epilogue(spec, channels)
    shape = codes_shape((spec.batch, view.in_rows, view.row_bytes), spec.in_bits)
    x = te.placeholder(shape, codes_dtype(spec.in_bits), "X")
    weights = te.placeholder(*packed_weights(spec, unit, tile), "W")
    source = _source(spec, unit, tile, x, epilogue)
    scaled, runs = 0, bool(spec.weight_group) and unpacks_on_the_way(spec, unit, tile)
    if runs:
        total = run_total(spec, unit, tile, view, (source, weights))
    else:
        total = _total(spec, unit, view, source, Weights.of(spec, unit, tile, weights))
        scaled = scaled_bits(spec, unit, tile)
    if scaled:
        total = _descaled(total, scaled)
    out_view = (spec.batch, view.rows, view.columns, spec.groups, spec.group_outputs)
    packed = 0
    if view.columns % tile.columns == 0:
        packed = packed_positions(spec, unit, channels, tile.columns, tile.blocks)
    out = (packed_stages if packed else output_stages)(total, epilogue, out_view)
    func = te.create_prim_func([x, weights, *epilogue.arguments, out])
    vectors = tuple(epilogue.vectors)
    return Workload(func, source is not x, channels, vectors, packed, scaled > 0, runs)


def _source(
    spec: LayerSpec, unit: VectorUnit, tile: Tile, x: te.Tensor, epilogue: Epilogue
) -> te.Tensor:
    """X itself, or the padded rows with room for the last step of the last tile's last column."""
    view = geometry(spec, unit)
    if view.gathered:
        return _gathered(spec, x, epilogue)
    taps_rows, taps_columns, steps = view.reduction
    group_bytes = (spec.groups - 1) * spec.group_inputs + steps * unit.step

    def reach(columns: int) -> int:
        last = (columns - 1) * spec.strides[1] + (taps_columns - 1) * spec.dilation[1]
        return last * spec.in_channels + group_bytes

    widened = unit.wide and spec.in_bits < WORD
    if not (
        widened or spec.in_bits == HALF or any(spec.pads) or reach(view.columns) > view.row_bytes
    ):
        return x
    rows = (view.rows - 1) * spec.strides[0] + (taps_rows - 1) * spec.dilation[0] + 1
    tiles = -(-view.columns // tile.columns)
    width = reach(tiles * tile.columns)
    if spec.in_bits == HALF:
        width = -(-width // spec.in_channels) * spec.in_channels  # whole positions

    top, left = spec.pads[0], spec.pads[1] * spec.in_channels

    def value(n: Any, h: Any, b: Any) -> Any:
        zero = epilogue.zero_code(n, 0)
        row_inside = tirx.all(h >= top, h < view.in_rows + top)
        if spec.in_bits == HALF:
            code = _half(spec, view, x, (n, h - top), b, zero)
        else:
            inside = tirx.all(b >= left, b < view.row_bytes + left)
            code = tirx.if_then_else(inside, x[n, h - top, b - left], zero)
        code = tirx.if_then_else(row_inside, code, zero)
        return code.astype("int16") if unit.wide else code

    return te.compute((spec.batch, rows, width), value, name="pad")


def _half(
    spec: LayerSpec, view: Geometry, x: te.Tensor, row: tuple[Any, Any], place: Any, zero: Any
) -> Any:
    """The code of 4 bits at a place of a padded row."""
    channels = spec.in_channels
    column = place // channels - spec.pads[1]
    inside = tirx.all(column >= 0, column < view.row_bytes // channels)
    code = half_of(x, row, column * (channels // 2), place % channels, channels)
    return tirx.if_then_else(inside, code, zero)


def _gathered(spec: LayerSpec, x: te.Tensor, epilogue: Epilogue) -> te.Tensor:
    """For each output position the pixels under its kernel's rows.

    uint8 ``[N, row % stride, position, kernel column, C]``: what the same kernel row reads for
    neighbouring positions lies at equal distances, also where an output row ends.
    """
    stride, channels, (top, left) = spec.strides[0], spec.in_channels, spec.pads[:2]
    rows = spec.out_height + (spec.kernel[0] - 1) // stride

    def value(n: Any, phase: Any, position: Any, tap: Any, c: Any) -> Any:
        row = position // spec.out_width * stride + phase
        column = position % spec.out_width * spec.strides[1] + tap
        inside = tirx.all(
            row >= top, row < spec.height + top, column >= left, column < spec.width + left
        )
        at, pixel = (n, row - top), column - left
        if spec.in_bits == HALF:
            code = half_of(x, at, pixel * (channels // 2), c, channels)
        else:
            code = x[*at, pixel * channels + c]
        return tirx.if_then_else(inside, code, epilogue.zero_code(n, 0))

    phases = min(stride, spec.kernel[0])
    shape = (spec.batch, phases, rows * spec.out_width, spec.kernel[1], channels)
    return te.compute(shape, value, name="pad")


def _total(
    spec: LayerSpec, unit: VectorUnit, view: Geometry, source: te.Tensor, weights: Weights
) -> te.Tensor:
    """The exact integer sums, ``[N, G, blocks, rows, columns, 16]``."""
    blocks = weights.shape[0] // spec.groups
    if unit.tiles:
        return _chunked_total(spec, view, source, weights)
    kh, kw, ks = (
        te.reduce_axis((0, n), name)
        for n, name in zip(view.reduction, ("kh", "kw", "ks"), strict=True)
    )
    ki = te.reduce_axis((0, unit.step), "ki")

    def product(n: Any, g: Any, o: Any, h: Any, w: Any, lane: Any) -> Any:
        row = h * spec.strides[0] + kh * spec.dilation[0]
        pixel = w * spec.strides[1] + kw * spec.dilation[1]
        byte = pixel * spec.in_channels + g * spec.group_inputs + ks * unit.step + ki
        code = source[n, row, byte].astype("int32")
        weight = weights.at(g * blocks + o, kh, kw, ks, lane, ki)
        return te.sum(code * weight, [kh, kw, ks, ki])

    shape = (spec.batch, spec.groups, blocks, view.rows, view.columns, LANES)
    return te.compute(shape, product, name="conv")


def _descaled(total: te.Tensor, bits: int) -> te.Tensor:
    """Sums of codes that were left in the upper bits of their bytes, `bits` too far up."""
    return te.compute(
        total.shape, lambda *at: total[at] >> tirx.const(bits, "int32"), name="descaled"
    )


def _chunked_total(
    spec: LayerSpec, view: Geometry, source: te.Tensor, weights: Weights
) -> te.Tensor:
    """The exact integer sums of a layer without groups, each kernel row in `Chunks`."""
    chunks = Chunks.of(view.reduction[2])
    extents = {"kh": view.reduction[0], "kw": view.reduction[1], "kc": chunks.count}
    kh, kw, kc, ks, ki = (
        te.reduce_axis((0, n), name)
        for name, n in {**extents, "ks": chunks.length, "ki": 4}.items()
    )

    def product(n: Any, _: Any, o: Any, h: Any, w: Any, lane: Any) -> Any:
        start = kc * chunks.length
        if chunks.shared:
            start = tirx.min(start, chunks.steps - chunks.length)
        byte = (start + ks) * 4 + ki
        if view.gathered:
            phase, down = kh % spec.strides[0], kh // spec.strides[0] * spec.out_width
            pixel, channel = byte // spec.in_channels, byte % spec.in_channels
            code = source[n, phase, w + down, pixel, channel]
        else:
            row = h * spec.strides[0] + kh * spec.dilation[0]
            pixel = w * spec.strides[1] + kw * spec.dilation[1]
            code = source[n, row, pixel * spec.in_channels + byte]
        code = code.astype("int32")
        return te.sum(code * weights.at(o, kh, kw, kc, ks, lane, ki), [kh, kw, kc, ks, ki])

    shape = (spec.batch, 1, weights.shape[0], view.rows, view.columns, LANES)
    return te.compute(shape, product, name="conv")


def packed_stages(total: te.Tensor, epilogue: Epilogue, out_view: tuple[int, ...]) -> te.Tensor:
    """The output of whole channel blocks by way of int32 codes; parameters of `output_stages`."""
    lanes = int(total.shape[5])
    total = epilogue.centred(total)
    residual = _residual(epilogue, out_view, out_view) if epilogue.spec.residual else None

    def code(n: Any, h: Any, w: Any, g: Any, c: Any) -> Any:
        other = residual(n, g, h, w, c) if residual else None
        return epilogue.rounded(total[n, g, c // lanes, h, w, c % lanes], (n, g, c), other)

    codes = te.compute(out_view, code, name="codes")
    floor = epilogue.floor()

    def value(n: Any, h: Any, w: Any, g: Any, c: Any) -> Any:
        return tirx.max(codes[n, h, w, g, c], floor[n]).astype("uint8")

    return _stored(te.compute(out_view, value, name="value"), epilogue, out_view)


def output_stages(total: te.Tensor, epilogue: Epilogue, out_view: tuple[int, ...]) -> te.Tensor:
    """Output values; behind a padded channel block, copied without its padding.

    Parameters
    ----------
    total : te.Tensor
        Sums int32 ``[N, G, blocks, rows, columns, lanes]``.
    epilogue : Epilogue
        What follows the sums; gets the residual's arguments.
    out_view : tuple of int
        ``[N, rows, columns, G, channels of a group]``, the memory order of the output.
    """
    channels, lanes = epilogue.channels, int(total.shape[5])
    n, rows, columns, groups, _ = out_view
    shape = (n, groups, rows, columns, channels.padded)
    total = epilogue.centred(total)
    residual = _residual(epilogue, out_view, shape) if epilogue.spec.residual else None

    def value(n: Any, g: Any, h: Any, w: Any, c: Any) -> Any:
        code = residual(n, g, h, w, c) if residual else None
        return epilogue.value(total[n, g, c // lanes, h, w, c % lanes], (n, g, c), code)

    if channels.exact:
        values = te.compute(out_view, lambda n, h, w, g, c: value(n, g, h, w, c), name="value")
        return _stored(values, epilogue, out_view)
    values = te.compute(shape, value, name="value")
    if writes_halves(epilogue.spec):
        return packed_output(values, channels, out_view)
    return te.compute(out_view, lambda n, h, w, g, c: values[n, g, h, w, c], name="out")


def _stored(values: te.Tensor, epilogue: Epilogue, out_view: tuple[int, ...]) -> te.Tensor:
    """The output: the values themselves, or bytes of two."""
    if not writes_halves(epilogue.spec):
        return values
    return packed_output(values, epilogue.channels, out_view)


def _residual_codes(epilogue: Epilogue, out_view: tuple[int, ...]) -> te.Tensor:
    """The residual, unpacked if need be, of the view of the output."""
    if epilogue.spec.residual_bits != HALF:
        return epilogue.add_residual(out_view)
    *outer, groups, real = out_view
    packed = epilogue.add_residual((*outer, groups * real // 2))
    return unpacked_residual(packed, out_view)


def _residual(
    epilogue: Epilogue, out_view: tuple[int, ...], shape: tuple[int, ...]
) -> Callable[..., Any]:
    """The residual's codes at ``(n, g, h, w, c)``, staged first if channels are padded."""
    channels = epilogue.channels
    residual = _residual_codes(epilogue, out_view)
    if channels.exact:
        return lambda n, g, h, w, c: residual[n, h, w, g, c]

    def staged(n: Any, g: Any, h: Any, w: Any, c: Any) -> Any:
        inside = c // channels.lanes * channels.lanes < channels.real
        return tirx.if_then_else(inside, residual[n, h, w, g, c], tirx.const(0, residual.dtype))

    stage = te.compute(shape, staged, name="residual")
    return lambda n, g, h, w, c: stage[n, g, h, w, c]
